//! An invoice for each order, exactly once, while a node dies and a member leaves: `cargo run -p consuming --bin exactly-once`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use consuming::billing::{self, INVOICES, ORDERS};
use consuming::demo::{self, Demo, Failure};
use ottla::consumer::{ConsumerConfig, IsolationLevel};
use ottla::prelude::*;
use tokio::time::{Instant, sleep, timeout};

const GROUP: &str = "billing";
const COUNT: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let demo = Demo::start(&[(ORDERS, 4), (INVOICES, 4)], |client| client).await?;
    let orders = (0..COUNT).map(|n| (format!("o-{n}"), (100 * n).to_string()));
    demo::write(&demo.client, ORDERS, orders).await?;

    let (enough, is_enough) = tokio::sync::watch::channel(false);
    let mut members = tokio::task::JoinSet::new();
    for leaves_early in [true, false] {
        let (client, mut is_enough) = (demo.client.clone(), is_enough.clone());
        members.spawn(async move {
            let stop = async {
                if leaves_early {
                    sleep(Duration::from_secs(3)).await;
                } else {
                    // The sender lives until then.
                    let _ = is_enough.wait_for(|enough| *enough).await;
                }
            };
            billing::run(&client, GROUP, stop).await
        });
    }
    if let Some(kafka) = &demo.kafka {
        sleep(Duration::from_millis(500)).await;
        println!("node 2 is stopped");
        kafka.stop_node(2).await?;
        sleep(Duration::from_secs(2)).await;
        println!("node 2 is started");
        kafka.start_node(2).await?;
    }
    let invoices = invoices(&demo.client).await?;
    enough.send(true)?;
    while let Some(ended) = members.join_next().await {
        ended??;
    }
    let twice = invoices.values().filter(|count| **count > 1).count();
    println!(
        "{} of {COUNT} orders have an invoice, {twice} more than one",
        invoices.len()
    );
    demo.end().await;
    Ok(())
}

/// How many invoices each order has, once all have one and no more come.
async fn invoices(client: &Client) -> Result<BTreeMap<Vec<u8>, usize>, Failure> {
    let consumer = client.consumer_with(ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        ..client.consumer_config()
    })?;
    let partitions = consumer.partitions_of(INVOICES).await?;
    consumer.assign(partitions.into_iter().map(|p| (p, Offset::Beginning)))?;
    let mut invoices = BTreeMap::new();
    let patience = Instant::now() + Duration::from_secs(120);
    while Instant::now() < patience {
        match timeout(Duration::from_secs(2), consumer.recv()).await {
            Ok(Ok(invoice)) => {
                let order = invoice.key().unwrap_or_default().to_vec();
                *invoices.entry(order).or_default() += 1;
            }
            Ok(Err(error)) if error.is_retriable() => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if invoices.len() >= COUNT => break,
            Err(_) => println!("{} orders have an invoice", invoices.len()),
        }
    }
    consumer.close(Duration::from_secs(5)).await?;
    Ok(invoices)
}
