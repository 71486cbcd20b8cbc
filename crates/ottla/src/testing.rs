//! A Kafka inside your tests: a cluster in the test's own process, reached over TCP or over memory.
//!
//! Behind the feature `testing`, for `[dev-dependencies]`. Outside of semver: it changes when the embedded broker
//! does. It owns nothing but the way from a client to the cluster; the cluster is
//! [`ottla_broker::EmbeddedCluster`], and a [`TestCluster`] derefs to it, so that a test can
//!
//! - look into logs without a client: [`records`](EmbeddedCluster::records), [`offsets`](EmbeddedCluster::offsets),
//!   [`TestCluster::values`];
//! - move what moves: [`move_leader`](EmbeddedCluster::move_leader),
//!   [`move_coordinator`](EmbeddedCluster::move_coordinator);
//! - have records lost by an [unclean election](EmbeddedCluster::elect_unclean), a
//!   [follower lag](EmbeddedCluster::lag_follower), a [member fenced](EmbeddedCluster::fence_member), or what members of a share
//!   group acquired [be over](EmbeddedCluster::expire_share_locks);
//! - stop and start nodes: [`stop_node`](EmbeddedCluster::stop_node), [`start_node`](EmbeddedCluster::start_node);
//! - let requests fail: [`inject`](EmbeddedCluster::inject) a [`Rule`] that delays, drops or refuses the n-th request
//!   of a kind, or loses its answer after it was applied.
//!
//! In memory there is no socket and no thread, so that a test with a paused clock runs timeouts of minutes in
//! no time, and the same way each time:
//!
//! ```
//! use ottla::prelude::*;
//! use ottla::testing::{ApiKey, Fault, Rule, TestCluster};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let kafka = TestCluster::builder().topic("orders", 3).in_memory()?;
//! let client = kafka.client()?;
//!
//! // The first batch is written, and the broker's answer gets lost: the producer sends it again.
//! kafka.inject(Rule {
//!     api: ApiKey::Produce,
//!     node: None,
//!     skip: 0,
//!     times: 1,
//!     fault: Fault::LoseReply,
//! });
//! let producer = client.producer()?;
//! producer.send(ProducerRecord::to("orders").key("o-1").value("paid")).await?.await?;
//!
//! assert_eq!(kafka.values("orders"), [b"paid"], "written once all the same");
//! # Ok(()) })
//! # }
//! ```
//!
//! The guide `docs/guides/testing-your-service.md` tests a small service through the loss of a node.

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_net::transport::BoxFuture;
use ottla_net::{Address, Connector, Stream};

pub use ottla_broker::{BrokerOptions, EmbeddedCluster, Error, Fault, MigrationPolicy, Rule};
pub use ottla_wire::ApiKey;

use crate::{Client, ClientBuilder};

/// A cluster for the length of a test. Dropping it stops it at once; [`TestCluster::stop`] stops it in order.
#[derive(Debug)]
pub struct TestCluster {
    cluster: Arc<EmbeddedCluster>,
    bootstrap_servers: String,
    /// None over TCP.
    connector: Option<Arc<dyn Connector>>,
}

impl TestCluster {
    /// One node in memory, without topics; see [`TestClusterBuilder::in_memory`].
    ///
    /// # Errors
    /// None that a caller could cause.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn in_memory() -> Result<TestCluster, Error> {
        Self::builder().in_memory()
    }

    /// One node on a free port of 127.0.0.1, without topics; see [`TestClusterBuilder::over_tcp`].
    ///
    /// # Errors
    /// [`Error::Listen`] if the system has no port left.
    pub async fn over_tcp() -> Result<TestCluster, Error> {
        Self::builder().over_tcp().await
    }

    /// Says how many nodes there are to be, and which topics.
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder {
            options: BrokerOptions::default(),
            error: None,
        }
    }

    /// A client of this cluster with the default settings.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn client(&self) -> Result<Client, crate::Error> {
        self.client_builder().build()
    }

    /// Gathers settings for a client that finds this cluster: what the program under test would get from its own
    /// configuration.
    pub fn client_builder(&self) -> ClientBuilder {
        let builder = Client::builder().bootstrap_servers(&self.bootstrap_servers);
        match &self.connector {
            Some(connector) => builder.connector(Arc::clone(connector)),
            None => builder,
        }
    }

    /// `bootstrap.servers` of every node. In memory they mean something to [`TestCluster::connector`] only.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// What reaches a cluster in memory, for programs that build their client themselves
    /// ([`ClientBuilder::connector`]), or for a test that puts faults of its own in between. `None` over TCP.
    pub fn connector(&self) -> Option<Arc<dyn Connector>> {
        self.connector.clone()
    }

    /// The values of all records of a topic, partition by partition, read straight from the logs; a null value is
    /// empty here. None of a topic that does not exist.
    pub fn values(&self, topic: &str) -> Vec<Vec<u8>> {
        (0..)
            .map_while(|partition| self.cluster.records(topic, partition))
            .flatten()
            .map(|(_, value)| value.unwrap_or_default())
            .collect()
    }

    /// Stops every node and, with a data directory, puts what was written on the disk.
    pub async fn stop(mut self) {
        loop {
            match Arc::try_unwrap(self.cluster) {
                Ok(cluster) => return cluster.stop().await,
                // A connector holds it for the moment of connecting, without waiting for anything.
                Err(shared) => self.cluster = shared,
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Deref for TestCluster {
    type Target = EmbeddedCluster;

    fn deref(&self) -> &EmbeddedCluster {
        &self.cluster
    }
}

/// What a [`TestCluster`] is to be. The first mistake is kept, and is what starting returns.
#[derive(Debug)]
#[must_use = "nothing happens before `in_memory` or `over_tcp`"]
pub struct TestClusterBuilder {
    options: BrokerOptions,
    error: Option<Error>,
}

impl TestClusterBuilder {
    /// How many nodes, 1 to 100; 1 unless set. Leaders move only between several. Topics have three replicas, or as
    /// many as there are nodes.
    pub fn nodes(mut self, nodes: u16) -> Self {
        self.options.nodes = nodes;
        self
    }

    /// A topic that is there from the start. May be called for several.
    pub fn topic(mut self, name: impl Into<String>, partitions: i32) -> Self {
        self.options.topics.push((name.into(), partitions));
        self
    }

    /// Any setting of the broker, by Kafka's name, see [`BrokerOptions::set`]:
    /// `.set("auto.create.topics.enable", false)`.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        if self.error.is_none() {
            self.error = self.options.set(name, &value.to_string()).err();
        }
        self
    }

    /// Keeps logs and committed offsets in this directory, so that a second cluster can go on where this one was
    /// stopped. In memory without.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.data_dir = Some(path.into());
        self
    }

    /// Anything else that [`BrokerOptions`] has.
    pub fn options(mut self, tweak: impl FnOnce(&mut BrokerOptions)) -> Self {
        tweak(&mut self.options);
        self
    }

    /// Starts it without sockets. Needs a tokio runtime with its time driver only, and works under a paused clock.
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::Topic`], and what is wrong with a data directory.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn in_memory(self) -> Result<TestCluster, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let cluster = Arc::new(EmbeddedCluster::start_in_memory(self.options)?);
        let connector: Arc<dyn Connector> = Arc::new(MemoryConnector {
            cluster: Arc::downgrade(&cluster),
        });
        Ok(TestCluster {
            bootstrap_servers: cluster.bootstrap_servers(),
            cluster,
            connector: Some(connector),
        })
    }

    /// Starts it on free ports of 127.0.0.1, for other processes, other clients, or to try sockets too.
    ///
    /// # Errors
    /// As [`Self::in_memory`], and [`Error::Listen`].
    pub async fn over_tcp(self) -> Result<TestCluster, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let cluster = EmbeddedCluster::start(self.options).await?;
        Ok(TestCluster {
            bootstrap_servers: cluster.bootstrap_servers(),
            cluster: Arc::new(cluster),
            connector: None,
        })
    }
}

/// Connects to the nodes of a cluster in memory: node `n` listens at port `n`.
#[derive(Debug)]
struct MemoryConnector {
    /// Weak, so that a client that is still there does not keep a cluster that was dropped.
    cluster: Weak<EmbeddedCluster>,
}

impl Connector for MemoryConnector {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        _timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = self
                .cluster
                .upgrade()
                .and_then(|cluster| cluster.connect(i32::from(address.port())));
            match stream {
                Some(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                None => Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    format!("{address}: connection refused; the node is down"),
                )),
            }
        })
    }
}
