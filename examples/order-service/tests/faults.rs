//! The service through what happens to clusters.
//!
//! Everything runs in memory and with a paused clock: when all wait, the clock moves to the next timeout at once. So
//! that half a minute without a broker takes a millisecond, and no test depends on how fast the machine is.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use order_service::{Biller, INVOICES, Invoice, ORDERS, Order, PlaceError, Shop};
use ottla::Client;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// Three nodes, so that leaders have somewhere to go.
fn kafka() -> (TestCluster, Client) {
    let kafka = TestCluster::builder()
        .nodes(3)
        .topic(ORDERS, 6)
        .topic(INVOICES, 6)
        .in_memory()
        .unwrap();
    let client = kafka.client().unwrap();
    (kafka, client)
}

fn order(number: u64) -> Order {
    Order {
        id: format!("o-{number}"),
        customer: format!("c-{}", number % 10),
        cents: 100 * number,
    }
}

fn once(api: ApiKey, fault: Fault) -> Rule {
    Rule {
        api,
        node: None,
        skip: 0,
        times: 1,
        fault,
    }
}

/// The orders that have an invoice, and how many invoices there are.
fn billed(kafka: &TestCluster) -> (BTreeSet<String>, usize) {
    let invoices: Vec<Invoice> = kafka
        .values(INVOICES)
        .iter()
        .map(|json| serde_json::from_slice(json).unwrap())
        .collect();
    let count = invoices.len();
    (invoices.into_iter().map(|i| i.order).collect(), count)
}

/// Lets billers work until all of these have an invoice.
async fn all_billed(kafka: &TestCluster, orders: &BTreeSet<String>) {
    let waiting = async {
        while !billed(kafka).0.is_superset(orders) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let done = timeout(Duration::from_secs(600), waiting).await;
    let have = billed(kafka).0;
    assert!(done.is_ok(), "never billed: {:?}", orders.difference(&have));
}

#[tokio::test(start_paused = true)]
async fn every_order_is_billed_once() {
    let (kafka, client) = kafka();
    let shop = Shop::open(&client, PATIENCE).unwrap();
    let biller = Biller::new(&client).unwrap();
    let billing = tokio::spawn(async move { biller.run().await });
    let mut placed = BTreeSet::new();
    for number in 0..100 {
        shop.place(&order(number)).await.unwrap();
        placed.insert(order(number).id);
    }
    all_billed(&kafka, &placed).await;
    assert_eq!(billed(&kafka).1, 100);
    billing.abort();
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_confirmation_gets_lost_is_placed_once() {
    let (kafka, client) = kafka();
    let shop = Shop::open(&client, PATIENCE).unwrap();
    // The broker writes it, and the connection breaks before the answer is out.
    kafka.inject(once(ApiKey::Produce, Fault::LoseReply));
    shop.place(&order(7)).await.unwrap();
    assert_eq!(kafka.values(ORDERS).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_costs_time_and_no_order() {
    let (kafka, client) = kafka();
    let shop = Shop::open(&client, PATIENCE).unwrap();
    let biller = Biller::new(&client).unwrap();
    let billing = tokio::spawn(async move { biller.run().await });
    let mut placed = BTreeSet::new();
    for number in 0..90 {
        match number {
            20 => kafka.stop_node(1).await.unwrap(),
            40 => kafka.start_node(1).await.unwrap(),
            50 => kafka.stop_node(2).await.unwrap(),
            60 => kafka.move_coordinator("billing", 3),
            70 => kafka.start_node(2).await.unwrap(),
            _ => {}
        }
        shop.place(&order(number)).await.unwrap();
        placed.insert(order(number).id);
        sleep(Duration::from_millis(50)).await;
    }
    all_billed(&kafka, &placed).await;
    assert_eq!(kafka.values(ORDERS).len(), 90, "none was written twice");
    assert!(!billing.is_finished(), "the biller has to live through it");
    billing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_biller_that_dies_between_invoice_and_commit_bills_again_and_forgets_nothing() {
    let (kafka, client) = kafka();
    let shop = Shop::open(&client, PATIENCE).unwrap();
    let mut placed = BTreeSet::new();
    for number in 0..30 {
        shop.place(&order(number)).await.unwrap();
        placed.insert(order(number).id);
    }
    kafka.inject(Rule {
        times: u64::MAX,
        ..once(ApiKey::OffsetCommit, Fault::Drop)
    });
    let first = Biller::new(&client).unwrap();
    let billing = tokio::spawn(async move { first.run().await });
    all_billed(&kafka, &placed).await;
    // Its future is dropped where it stands, as a crash would leave it.
    billing.abort();
    let _ = billing.await;
    kafka.clear_faults();

    let second = Biller::new(&client).unwrap();
    let billing = tokio::spawn(async move { second.run().await });
    shop.place(&order(30)).await.unwrap();
    placed.insert(order(30).id);
    all_billed(&kafka, &placed).await;
    let (orders, invoices) = billed(&kafka);
    assert_eq!(orders, placed);
    assert!(
        invoices > 31,
        "an invoice is written again, with the same key and content"
    );
    billing.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_cluster_customers_are_told_in_time() {
    let (kafka, client) = kafka();
    let shop = Shop::open(&client, PATIENCE).unwrap();
    shop.place(&order(1)).await.unwrap();
    for node in kafka.node_ids() {
        kafka.stop_node(node).await.unwrap();
    }
    let started = Instant::now();
    let error = shop.place(&order(2)).await.unwrap_err();
    assert!(matches!(error, PlaceError::NotPlaced(_)), "{error}");
    assert!(started.elapsed() <= 2 * PATIENCE, "{:?}", started.elapsed());

    // And when it is back, so is the shop.
    for node in kafka.node_ids() {
        kafka.start_node(node).await.unwrap();
    }
    shop.place(&order(2)).await.unwrap();
    assert_eq!(kafka.values(ORDERS).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_may_be_placed_is_not_said_to_be_lost() {
    let (kafka, client) = kafka();
    let shop = Shop::open(&client, PATIENCE).unwrap();
    // Written each time, and never confirmed.
    kafka.inject(Rule {
        times: u64::MAX,
        ..once(ApiKey::Produce, Fault::LoseReply)
    });
    let error = shop.place(&order(1)).await.unwrap_err();
    assert!(matches!(error, PlaceError::Unknown(_)), "{error}");
    assert_eq!(kafka.values(ORDERS).len(), 1);
}
