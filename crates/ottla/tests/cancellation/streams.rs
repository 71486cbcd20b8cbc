//! The futures of a consumer that is split into one stream per partition.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::consumer::{
    ConsumerConfig, GroupProtocol, IsolationLevel, PartitionStream, PartitionStreams,
};
use ottla::exactly_once::{ExactlyOnce, Outcome};
use ottla::prelude::*;
use ottla::producer::ProducerConfig;

use crate::{PATIENCE, Run, World, at_every_await, drop_at};

/// Records of each of the two partitions, in batches of four.
const COUNT: i64 = 12;

#[test]
fn the_taking_of_a_partition() {
    at_every_await("next_partition", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        let first = drop_at(run, partitions.next_partition()).await;
        let completed = first.is_some();
        let taken = first.map(Result::unwrap).into_iter().collect();
        let read = read_on(&mut partitions, taken).await;
        assert_eq!(read, all(), "once, and in order");
        end(world, consumer, partitions, 2 * COUNT).await;
        completed
    });
}

#[test]
fn a_record() {
    at_every_await("recv", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        let mut stream = taken(&mut partitions).await;
        let first = drop_at(run, stream.recv()).await;
        let completed = first.is_some();
        let record = first.map(|record| record.unwrap().unwrap());
        assert!(record.is_none_or(|record| record.offset() == 0));
        let from = (stream.partition(), i64::from(completed));
        let mut read = read_on(&mut partitions, vec![stream]).await;
        let mut rest: Vec<_> = (0..from.1).collect();
        rest.append(read.get_mut(&from.0).unwrap());
        read.insert(from.0, rest);
        assert_eq!(read, all(), "once, and in order");
        end(world, consumer, partitions, 2 * COUNT).await;
        completed
    });
}

#[test]
fn a_batch() {
    at_every_await("next_batch", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        let mut stream = taken(&mut partitions).await;
        let first = drop_at(run, stream.next_batch()).await;
        let completed = first.is_some();
        // What it handed out is not told to be processed: it comes again.
        drop((stream, first));
        assert_eq!(read_on(&mut partitions, vec![]).await, all());
        end(world, consumer, partitions, 2 * COUNT).await;
        completed
    });
}

#[test]
fn a_commit() {
    at_every_await("commit of a stream", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        let mut stream = taken(&mut partitions).await;
        for _ in 0..5 {
            stream.recv().await.unwrap().unwrap();
        }
        let completed = drop_at(run, stream.commit()).await;
        let is_some = completed.is_some();
        completed.map(Result::unwrap);
        tokio::time::sleep(SETTLED).await;
        let at = stream.topic_partition().clone();
        let committed = consumer.committed(std::slice::from_ref(&at)).await.unwrap();
        assert_eq!(committed[&at].as_ref().unwrap().offset, 5, "it went on");
        let mut expected = all();
        expected.insert(at.partition, (5..COUNT).collect());
        assert_eq!(read_on(&mut partitions, vec![stream]).await, expected);
        end(world, consumer, partitions, 2 * COUNT).await;
        is_some
    });
}

/// A task that reads a partition, works on each record for a while, and commits it.
#[test]
fn a_task() {
    at_every_await("task of a stream", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        let stream = taken(&mut partitions).await;
        let partition = stream.partition();
        let mut done = Vec::new();
        let task = async {
            let mut stream = stream;
            for _ in 0..3 {
                let record = stream.recv().await.unwrap().unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
                done.push(record.offset());
                stream.commit_record(&record).await.unwrap();
            }
            stream.finish();
        };
        let completed = drop_at(run, task).await.is_some();
        let read = read_on(&mut partitions, vec![]).await;
        let rest = &read[&partition];
        // The next stream begins with what it was at, whether it had done that or not, and leaves nothing out.
        let next = done.last().map_or(0, |last| last + 1);
        assert!(
            rest[0] == next || !completed && rest[0] + 1 == next,
            "{done:?}, then {rest:?}"
        );
        assert_eq!(*rest, (rest[0]..COUNT).collect::<Vec<_>>());
        end(world, consumer, partitions, 2 * COUNT).await;
        completed
    });
}

/// All of it: taking partitions, reading them at the same time, and what they are done with; with everything dropped at once.
/// Another member then reads what was not done.
#[test]
fn a_program() {
    at_every_await("program with streams", async |run| {
        let (world, consumer, partitions) = start(run).await;
        let mut done = BTreeMap::new();
        let program = async {
            let mut partitions = partitions;
            let (mut one, mut two) = (taken(&mut partitions).await, taken(&mut partitions).await);
            for _ in 0..COUNT {
                for stream in [&mut one, &mut two] {
                    let record = stream.recv().await.unwrap().unwrap();
                    done.insert(record.partition(), record.offset() + 1);
                    stream.commit_record(&record).await.unwrap();
                }
            }
        };
        let completed = drop_at(run, program).await.is_some();
        consumer.close(PATIENCE).await.unwrap();
        drop(consumer);
        let consumer = world.member(GroupProtocol::Classic, false);
        let partitions = consumer.split().unwrap();
        tokio::time::sleep(SETTLED).await;
        let names: Vec<_> = (0..2).map(|p| TopicPartition::new("t", p)).collect();
        let committed = consumer.committed(&names).await.unwrap();
        let mut left = 0;
        for name in &names {
            let committed = committed[name]
                .as_ref()
                .map_or(0, |committed| committed.offset);
            let done = done.get(&name.partition).copied().unwrap_or(0);
            assert!(
                committed == done || committed + 1 == done,
                "{committed} of {done}"
            );
            left += COUNT - committed;
        }
        assert!(!completed || left == 0);
        end(world, consumer, partitions, 2 * COUNT).await;
        completed
    });
}

#[test]
fn a_close_with_streams() {
    at_every_await("close with streams", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        let mut stream = taken(&mut partitions).await;
        stream.recv().await.unwrap().unwrap();
        let reading = async {
            while stream.recv().await.unwrap().is_some() {}
            let committed = stream.commit().await;
            drop(stream);
            committed
        };
        let closing = drop_at(run, consumer.close(PATIENCE));
        let (closed, committed) = tokio::join!(closing, reading);
        let completed = closed.is_some();
        closed.map(Result::unwrap);
        assert!(!completed || committed.is_ok(), "{committed:?}");
        drop((consumer, partitions));
        world.end().await;
        completed
    });
}

/// A member of a group that is split, and its cluster. What it takes is delayed as the run says.
async fn start(run: Run) -> (World, Consumer, PartitionStreams) {
    let world = World::of_a_group(run, COUNT).await;
    let consumer = world.member(GroupProtocol::Classic, false);
    let partitions = consumer.split().unwrap();
    (world, consumer, partitions)
}

async fn taken(partitions: &mut PartitionStreams) -> PartitionStream {
    let next = tokio::time::timeout(PATIENCE, partitions.next_partition()).await;
    next.expect("no partition comes").unwrap()
}

/// The offsets of both partitions to their ends, read by these streams and those to come.
async fn read_on(
    partitions: &mut PartitionStreams,
    mut streams: Vec<PartitionStream>,
) -> BTreeMap<i32, Vec<i64>> {
    while streams.len() < 2 {
        streams.push(taken(partitions).await);
    }
    let mut read = BTreeMap::new();
    for mut stream in streams {
        let mut offsets = Vec::new();
        while offsets.last() != Some(&(COUNT - 1)) {
            let next = tokio::time::timeout(PATIENCE, stream.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("stuck after {offsets:?}"));
            offsets.push(next.unwrap().unwrap().offset());
        }
        stream.commit().await.unwrap();
        read.insert(stream.partition(), offsets);
        stream.finish();
    }
    read
}

fn all() -> BTreeMap<i32, Vec<i64>> {
    (0..2).map(|p| (p, (0..COUNT).collect())).collect()
}

async fn end(world: World, consumer: Consumer, partitions: PartitionStreams, written: i64) {
    drop(partitions);
    consumer.close(PATIENCE).await.unwrap();
    let late = consumer.recv().await.unwrap_err();
    assert!(matches!(late, ottla::consumer::Error::Closed), "{late}");
    drop(consumer);
    assert_eq!(world.values().len() as i64, written);
    world.end().await;
}

/// A session that copies a partition in transactions: dropped wherever it is, another one goes on, and each copy is there
/// once.
#[test]
fn a_session() {
    at_every_await("session", async |run| {
        let (world, consumer, mut partitions) = start(run).await;
        world.kafka.create_topic("copy", 1).unwrap();
        let stream = taken(&mut partitions).await;
        let two_steps = async {
            let mut session = session(&world, stream).await;
            let _done = copy(&mut session).await;
            let _done = copy(&mut session).await;
        };
        let completed = drop_at(run, two_steps).await.is_some();
        // The other partition, and then the rest of this one.
        for _ in 0..2 {
            let mut session = session(&world, taken(&mut partitions).await).await;
            while copy(&mut session).await != Outcome::Committed(COUNT) {}
            session.close(PATIENCE).await.unwrap();
        }
        let mut copied = committed(&world, "copy").await;
        copied.sort();
        assert_eq!(copied, world.values(), "each once");
        end(world, consumer, partitions, 2 * COUNT).await;
        completed
    });
}

async fn session(world: &World, stream: PartitionStream) -> ExactlyOnce {
    let config = ProducerConfig {
        transactional_id: Some(format!("copier-{}", stream.topic_partition())),
        ..world.client.producer_config()
    };
    let producer = world.client.transactional_producer_with(config).await;
    ExactlyOnce::new(stream, producer.unwrap()).unwrap()
}

/// Copies one batch.
async fn copy(session: &mut ExactlyOnce) -> Outcome {
    let step = session.next().await.unwrap().unwrap();
    for record in step.batch() {
        let record = record.unwrap();
        let copy = ProducerRecord::to("copy").value(record.value().unwrap());
        drop(step.send(copy).await.unwrap());
    }
    step.commit().await.unwrap()
}

/// What readers of committed records see in a topic of one partition.
async fn committed(world: &World, topic: &str) -> Vec<String> {
    let consumer = world.client.consumer_with(ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        ..world.client.consumer_config()
    });
    let consumer = consumer.unwrap();
    let at = TopicPartition::new(topic, 0);
    consumer.assign([(at.clone(), Offset::Beginning)]).unwrap();
    let end = consumer.query_watermarks(&at).await.unwrap().end;
    let mut values = Vec::new();
    while consumer.position(&at).unwrap() != Some(end) {
        let batches = consumer.poll(Duration::from_millis(200)).await.unwrap();
        for record in batches.into_iter().flatten() {
            let value = record.unwrap().value().unwrap().to_vec();
            values.push(String::from_utf8(value).unwrap());
        }
    }
    consumer.close(PATIENCE).await.unwrap();
    values
}

/// By then all that goes on has ended.
const SETTLED: Duration = Duration::from_secs(3);
