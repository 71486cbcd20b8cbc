//! Topics that take nothing while a replica is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_net::{Cluster, ClusterConfig};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord, SendError};
use ottla_protocol_tests::{KafkaCluster, NodeId, unique};
use tokio::runtime::Runtime;

use crate::client::{PATIENCE, cluster_config};
use crate::ledger::{Fate, Ledger};
use crate::load::Load;
use crate::stored;

/// Kills node `missing`, does `meanwhile`, and brings the node back. A patient producer delivers everything once it is
/// back; an impatient one is told that its records were not written, why, and is right.
pub(crate) fn fewer_replicas_than_asked_for(
    kafka: &KafkaCluster,
    runtime: &Runtime,
    missing: NodeId,
    meanwhile: impl FnOnce(),
) {
    let three = [("min.insync.replicas", "3")];
    let topic = |name| {
        let topic = unique(name);
        kafka.create_topic(&topic, 1, &three);
        topic
    };
    let (patient, impatient) = (topic("patient"), topic("impatient"));
    let bootstrap = kafka.bootstrap();
    let inside = runtime.enter();
    let config = ProducerConfig {
        // On a machine under load the node is away for longer than the two minutes of the default.
        delivery_timeout: Duration::from_secs(600),
        ..Default::default()
    };
    let load = Load::start(&bootstrap, patient.clone(), config, 50);
    drop(inside);
    let before = runtime.block_on(grown(&load, 50));

    kafka.kill(missing);
    let refused = Arc::new(AtomicBool::new(false));
    let back = Arc::new(AtomicBool::new(false));
    let task = try_again_and_again(bootstrap, impatient.clone(), refused.clone(), back.clone());
    let trying = runtime.spawn(task);
    meanwhile();
    runtime.block_on(crate::client::until("the impatient is refused", || {
        refused.load(Ordering::SeqCst)
    }));
    let stuck = load.acknowledged();
    assert!(
        stuck < before + 1_000,
        "nothing is taken meanwhile: {stuck}"
    );
    kafka.restart(missing).unwrap();
    back.store(true, Ordering::SeqCst);
    let (ledger, tried) = runtime.block_on(async {
        grown(&load, 200).await;
        (load.end().await, trying.await.unwrap())
    });
    assert_eq!(ledger.failures(), Vec::<String>::new());
    let told = tried.failures();
    let told = told.iter().find(|told| told.contains(NOT_ENOUGH)).unwrap();
    println!("the impatient was told: {told}");
    let tools = kafka.tools().in_one_jvm().unwrap();
    ledger.check(&stored(&tools, &patient));
    tried.check(&stored(&tools, &impatient));
}

async fn grown(load: &Load, by: usize) -> usize {
    let before = load.acknowledged();
    crate::client::until("the patient one goes on", || {
        load.acknowledged() >= before + by
    })
    .await;
    load.acknowledged()
}

/// Sends one record after the other until one is acknowledged after all replicas are `back`.
async fn try_again_and_again(
    bootstrap: String,
    topic: String,
    refused: Arc<AtomicBool>,
    back: Arc<AtomicBool>,
) -> Ledger {
    let second = Duration::from_secs(1);
    let net = ClusterConfig {
        request_timeout: second,
        ..cluster_config(&bootstrap)
    };
    let config = ProducerConfig {
        linger: Duration::ZERO,
        request_timeout: second,
        delivery_timeout: 2 * second,
        ..Default::default()
    };
    let producer = Producer::new(Cluster::over_tcp(net).unwrap(), config).unwrap();
    let mut ledger = Ledger::default();
    loop {
        let value = ledger.fates.len().to_string();
        let sent = producer
            .send(ProducerRecord::to(&topic).value(&value))
            .await;
        let outcome = match sent {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        if let Err(SendError::TimedOut { stuck, .. }) = &outcome
            && stuck.contains(NOT_ENOUGH)
        {
            refused.store(true, Ordering::SeqCst);
        }
        let written = outcome.is_ok();
        ledger.fates.push(Fate::from(outcome));
        if written && back.load(Ordering::SeqCst) {
            break;
        }
    }
    producer.close(PATIENCE).await.unwrap();
    ledger
}

const NOT_ENOUGH: &str = "NOT_ENOUGH_REPLICAS ";
