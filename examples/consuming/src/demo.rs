//! What the three programs need around them: a cluster, and something in its topics.

use std::collections::BTreeMap;

use ottla::ClientBuilder;
use ottla::admin::{AlterConfig, Resource};
use ottla::prelude::*;
use ottla::testing::TestCluster;

/// Whatever may go wrong in a program that only shows something.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client, and the cluster it is of.
#[derive(Debug)]
pub struct Demo {
    /// The client.
    pub client: Client,
    /// None where `OTTLA_BOOTSTRAP` names another.
    pub kafka: Option<TestCluster>,
}

impl Demo {
    /// The cluster that the environment names, whose topics must exist; otherwise an embedded one of three nodes, with these
    /// topics.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub async fn start(
        topics: &[(&str, i32)],
        settings: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Demo, Failure> {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_env("OTTLA_LOG"))
            .with_writer(std::io::stderr)
            .init();
        if std::env::var_os("OTTLA_BOOTSTRAP").is_some() {
            let client = settings(Client::builder().environment()).build()?;
            return Ok(Demo {
                client,
                kafka: None,
            });
        }
        let mut builder = TestCluster::builder().nodes(3);
        for (topic, partitions) in topics {
            builder = builder.topic(*topic, *partitions);
        }
        let kafka = builder.over_tcp().await?;
        let client = settings(kafka.client_builder()).build()?;
        Ok(Demo {
            client,
            kafka: Some(kafka),
        })
    }

    /// Ends the client, and the cluster if it is the program's own.
    pub async fn end(self) {
        self.client.close().await;
        if let Some(kafka) = self.kafka {
            kafka.stop().await;
        }
    }
}

/// Writes records with keys and values, spread over the topic's partitions by key.
///
/// # Errors
/// What was not written.
pub async fn write(
    client: &Client,
    topic: &str,
    records: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Failure> {
    let producer = client.producer()?;
    let mut deliveries = Vec::new();
    for (key, value) in records {
        let record = ProducerRecord::to(topic).key(&key).value(&value);
        deliveries.push(producer.send(record).await?);
    }
    producer.flush(PATIENCE).await?;
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close(PATIENCE).await?;
    Ok(())
}

/// Has a share group begin with the oldest record, which is a setting of the group and not of its members.
///
/// # Errors
/// What the brokers have against it.
pub async fn share_from_the_beginning(client: &Client, group: &str) -> Result<(), Failure> {
    let earliest = AlterConfig::Set("earliest".into());
    let changes = BTreeMap::from([("share.auto.offset.reset".to_owned(), earliest)]);
    let group = Resource::Group(group.to_owned());
    client
        .admin()
        .alter_configs(&group, &changes, false)
        .await?;
    Ok(())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
