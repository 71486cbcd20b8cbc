//! Producers in bad weather: what is acknowledged is written once and in order, what is refused is not written,
//! and everything ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_broker::EmbeddedCluster;
use ottla_net::Cluster;
use ottla_producer::{
    Compression, Partitioning, Producer, ProducerConfig, ProducerRecord, RecordMetadata, SendError,
};

use crate::chaos::Targets;
use crate::faults::FaultKind;
use crate::history::Part;
use crate::world::{World, check};

/// One record's fate, by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// At this partition and offset.
    Acknowledged(i32, i64),
    /// Certainly not in the log.
    Refused,
    /// Nobody said.
    Unknown,
}

/// Runs producers against a faulty cluster and checks the log afterwards.
pub(crate) async fn run(world: &Arc<World>) -> Result<String, String> {
    let mut rng = world.rng();
    let partitions = rng.i32(1..=4);
    let part = |partition| Part {
        topic: 0,
        partition,
    };
    let topic = part(0).topic_name();
    world.create_topic(0, partitions)?;
    let producers = rng.usize(1..=3);
    let mut tasks = Vec::new();
    for producer in 0..producers {
        let rng = rng.fork();
        let (net, _seat) = world.client()?;
        tasks.push(tokio::spawn(one_producer(
            net,
            Arc::clone(world),
            topic.clone(),
            partitions,
            producer,
            rng,
        )));
    }
    let storm = Duration::from_millis(rng.u64(2_000..60_000));
    let targets = Targets {
        parts: (0..partitions).map(part).collect(),
        groups: Vec::new(),
        delete_records: false,
        apis: &[],
    };
    world.harm(&targets, storm).await;
    let mut fates = BTreeMap::new();
    for task in tasks {
        let (told, closed) = task
            .await
            .map_err(|error| format!("a producer panicked: {error}"))?;
        closed?;
        fates.extend(told);
    }
    let written = logs(&world.cluster, &topic, partitions)?;
    verify(&fates, &written)?;
    let acknowledged = fates
        .values()
        .filter(|fate| matches!(fate, Fate::Acknowledged(..)))
        .count();
    let unknown = fates
        .values()
        .filter(|fate| **fate == Fate::Unknown)
        .count();
    Ok(format!(
        "{acknowledged} of {} acknowledged, {unknown} unknown",
        fates.len()
    ))
}

type Told = (BTreeMap<String, Fate>, Result<(), String>);

async fn one_producer(
    net: Cluster,
    world: Arc<World>,
    topic: String,
    partitions: i32,
    number: usize,
    mut rng: Rng,
) -> Told {
    let buffer_memory = rng.choice([4_000, 100_000, 1 << 20]).unwrap_or(100_000);
    let config = ProducerConfig {
        linger: Duration::from_millis(rng.choice([0, 0, 5, 100]).unwrap_or(0)),
        batch_size: rng.choice([200, 2_000, 100_000]).unwrap_or(2_000),
        buffer_memory,
        max_request_size: buffer_memory,
        delivery_timeout: Duration::from_secs(rng.choice([15, 30, 600]).unwrap_or(600)),
        // Not below the connections' own.
        request_timeout: Duration::from_secs(rng.choice([5, 10]).unwrap_or(10)),
        max_block: Duration::from_secs(600),
        max_in_flight: rng.usize(1..=5),
        compression: rng
            .choice([Compression::None, Compression::None, Compression::Lz4])
            .unwrap_or(Compression::None),
        blocking_threads: false,
        partitioner: if rng.bool() {
            Partitioning::default()
        } else {
            Partitioning::Random
        },
        ..ProducerConfig::default()
    };
    let producer = match Producer::new(net.clone(), config) {
        Ok(producer) => producer,
        Err(error) => return (BTreeMap::new(), Err(error.to_string())),
    };
    let mut fates = BTreeMap::new();
    let mut deliveries = Vec::new();
    let count = rng.usize(20..300);
    for sequence in 0..count {
        let value = format!("{number}/{sequence}{}", "x".repeat(rng.usize(0..60)));
        let key = format!("k{}", rng.u32(0..6));
        let mut record = ProducerRecord::to(&topic)
            .value(&value)
            .timestamp(world.history.timestamp());
        if rng.bool() {
            record = record.key(&key);
        } else if rng.bool() {
            record = record.partition(rng.i32(0..partitions));
        }
        let send = producer.send(record);
        // Callers give up at any time.
        let sent = if rng.u32(0..20) == 0 {
            let patience = Duration::from_millis(rng.u64(0..20));
            let sent = tokio::time::timeout(patience, send).await.ok();
            if sent.is_none() {
                world.weather.faults().note(FaultKind::CallerCancelled);
            }
            sent
        } else {
            Some(send.await)
        };
        match sent {
            // The future was dropped: the record was taken or it was not.
            None => {
                fates.insert(value, Fate::Unknown);
            }
            Some(Err(error)) => {
                fates.insert(value, fate_of(&error));
            }
            // The caller does not want to know; the record goes its way.
            Some(Ok(_delivery)) if rng.u32(0..30) == 0 => {
                fates.insert(value, Fate::Unknown);
            }
            Some(Ok(delivery)) => deliveries.push((value, delivery)),
        }
        if rng.u32(0..10) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..400))).await;
        }
        if rng.u32(0..40) == 0 {
            // In bad weather a flush may well run into its deadline.
            let _ = producer
                .flush(Duration::from_millis(rng.u64(0..3_000)))
                .await;
        }
    }
    for (value, delivery) in deliveries {
        let fate = match delivery.await {
            Ok(metadata) => match metadata.offset() {
                Some(offset) => Fate::Acknowledged(metadata.partition(), offset),
                None => Fate::Unknown,
            },
            Err(error) => fate_of(&error),
        };
        fates.insert(value, fate);
    }
    if let Err(problem) = last_record(&producer, &world, &topic, number, count, &mut fates).await {
        return (fates, Err(problem));
    }
    let closed = producer
        .close(CLOSE_PATIENCE)
        .await
        .map_err(|error| format!("close() did not end in fair weather: {error}"));
    net.close().await;
    (fates, closed)
}

/// Whatever happened before, in fair weather a record is written.
///
/// Perhaps not the first one: it may leave by a connection that the storm has killed, behind batches that run out of time there.
/// When the broker then says that it does not follow them, their requests may still be on their way, and its own
/// behind them: nobody can know, and it is told as possibly written. The connection of the second one is new.
async fn last_record(
    producer: &Producer,
    world: &World,
    topic: &str,
    number: usize,
    sequence: usize,
    fates: &mut BTreeMap<String, Fate>,
) -> Result<(), String> {
    while !world.weather.is_fair() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut value = format!("{number}/{sequence}");
    let mut last = written(producer, world, topic, &value).await;
    if last.as_ref().is_err_and(SendError::possibly_written) {
        fates.insert(value, Fate::Unknown);
        value = format!("{number}/{}", sequence + 1);
        last = written(producer, world, topic, &value).await;
    }
    let metadata = last.map_err(|error| format!("stuck: in fair weather, {error}"))?;
    let offset = metadata.offset().ok_or("acknowledged without an offset")?;
    fates.insert(value, Fate::Acknowledged(metadata.partition(), offset));
    Ok(())
}

async fn written(
    producer: &Producer,
    world: &World,
    topic: &str,
    value: &str,
) -> Result<RecordMetadata, SendError> {
    let record = ProducerRecord::to(topic)
        .value(value)
        .timestamp(world.history.timestamp());
    producer.produce_and_wait(record).await
}

fn fate_of(error: &SendError) -> Fate {
    if error.possibly_written() {
        Fate::Unknown
    } else {
        Fate::Refused
    }
}

/// Values by partition, in order of offset.
fn logs(
    cluster: &EmbeddedCluster,
    topic: &str,
    partitions: i32,
) -> Result<BTreeMap<i32, Vec<(i64, String)>>, String> {
    (0..partitions)
        .map(|partition| {
            let records = cluster
                .records(topic, partition)
                .ok_or_else(|| format!("{topic}-{partition} is gone"))?;
            let values = records
                .into_iter()
                .map(|(offset, value)| {
                    (
                        offset,
                        String::from_utf8_lossy(&value.unwrap_or_default()).into_owned(),
                    )
                })
                .collect();
            Ok((partition, values))
        })
        .collect()
}

fn verify(
    fates: &BTreeMap<String, Fate>,
    written: &BTreeMap<i32, Vec<(i64, String)>>,
) -> Result<(), String> {
    let mut places: BTreeMap<&str, (i32, i64)> = BTreeMap::new();
    for (partition, records) in written {
        let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
        for (offset, value) in records {
            check(
                places.insert(value, (*partition, *offset)).is_none(),
                || format!("duplicate: {value} stands twice in the log"),
            )?;
            let fate = fates.get(value).copied();
            check(fate.is_some(), || format!("{value} was never sent"))?;
            check(fate != Some(Fate::Refused), || {
                format!("{value} was reported as not written, and stands at {partition}/{offset}")
            })?;
            let (producer, sequence) = number(value);
            if let Some(before) = newest.insert(producer, sequence) {
                check(before < sequence, || {
                    format!(
                        "order: {value} stands behind record {before} of its producer in partition {partition}"
                    )
                })?;
            }
        }
    }
    for (value, fate) in fates {
        if let Fate::Acknowledged(partition, offset) = fate {
            let place = places.get(value.as_str());
            check(place == Some(&(*partition, *offset)), || {
                format!(
                    "loss: {value} was acknowledged at {partition}/{offset}, and stands at {place:?}"
                )
            })?;
        }
    }
    Ok(())
}

fn number(value: &str) -> (&str, usize) {
    let value = value.trim_end_matches('x');
    match value.split_once('/') {
        Some((producer, sequence)) => (producer, sequence.parse().unwrap_or(usize::MAX)),
        None => ("", usize::MAX),
    }
}

/// In fair weather, with everything settled, closing takes no time.
const CLOSE_PATIENCE: Duration = Duration::from_secs(700);
