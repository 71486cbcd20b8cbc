//! Record batches on a live broker: stored bit for bit, read by Kafka's tools; and what other
//! clients wrote, read by us.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use ottla_protocol_tests::{Kafka, Python, Sample, or_skip, sample, unique};
use ottla_wire::{
    Bytes, ErrorCode, Message as _, Uuid, VersionRange,
    compress::{Codec, Compression, Compressor, Decompressor},
    messages::{
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        init_producer_id::InitProducerIdRequest,
        metadata::{MetadataRequest, MetadataRequestTopic},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
    record::{BatchWriter, Batches, Header, NewRecord, SealOptions, SealedBatch},
};

use crate::connection::Connection;

#[test]
fn every_codec_and_level_is_stored_bit_for_bit_and_read_by_kafka() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut codecs: Vec<Codec> = Compression::ALL.map(Codec::from).to_vec();
    for (compression, levels) in [
        (Compression::Gzip, &[1, 9][..]),
        (Compression::Lz4, &[1, 17]),
        (Compression::Zstd, &[-7, 1, 7, 12, 19, 22]),
    ] {
        codecs.extend(
            levels
                .iter()
                .map(|&level| Codec::new(compression, Some(level)).unwrap()),
        );
    }
    let topic = unique("codecs");
    kafka.create_topic(&topic, codecs.len() as i32, &[("retention.ms", "-1")]);
    let small = sample::every_shape();
    let large = [sample::one_megabyte()];

    // One codec, one partition: a batch of every shape, and one of a record of 1 MB.
    let mut broker = Connection::open(kafka.bootstrap());
    let mut sent = Vec::new();
    for (partition, &codec) in codecs.iter().enumerate() {
        let batches = [seal(&small, codec), seal(&large, codec)];
        assert_eq!(
            batches[0].compression(),
            codec.compression(),
            "it was worth it"
        );
        let batches = batches.map(SealedBatch::freeze);
        for batch in &batches {
            produce(
                &mut broker,
                &Place::named(&topic),
                9,
                partition as i32,
                batch,
            )
            .unwrap();
        }
        sent.push(batches);
    }

    let everything = codecs.len() * (small.len() + 1);
    let mut read = BTreeMap::<i32, Vec<Sample>>::new();
    for seen in kafka.tools().consume(&topic, everything, &[]) {
        read.entry(seen.partition).or_default().push(seen.sample);
    }
    let expected = [&small[..], &large].concat();
    for (partition, codec) in codecs.iter().enumerate() {
        let read = read.remove(&(partition as i32)).unwrap_or_default();
        sample::assert_same(&format!("{codec:?} read by Kafka"), &read, &expected);
    }

    let Some(cluster) = kafka.cluster() else {
        return;
    };
    let dumps = cluster.dump_all(1, &topic, codecs.len() as i32);
    for ((partition, dump), sent) in dumps.iter().enumerate().zip(&sent) {
        assert_eq!(dump.records, expected.len());
        assert_eq!(dump.numbers("count"), [small.len() as i64, 1]);
        let codec = codecs[partition].compression().name();
        assert_eq!(dump.batches[0]["compresscodec"], codec);
        let stored = cluster.segment_bytes(1, &topic, partition as i32);
        let mut rest = &stored[..];
        for batch in sent {
            let (stored, behind) = rest.split_at(batch.len());
            // The broker writes offset and leader epoch, which no checksum covers.
            assert!(stored[16..] == batch[16..], "{codec}: stored bit for bit");
            rest = behind;
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn every_version_of_produce_and_fetch_carries_records() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("versions");
    kafka.create_topic(&topic, 1, &[]);
    let mut broker = Connection::open(kafka.bootstrap());
    let place = Place::of(&mut broker, &topic);
    let VersionRange { min, max } = ProduceRequest::VERSIONS;
    let mut samples = Vec::new();
    for version in min..=max {
        let value = format!("by Produce {version}");
        let sample = Sample::new(None, Some(value.as_bytes())).header("v", None);
        let batch = seal(std::slice::from_ref(&sample), Compression::None.into()).freeze();
        let offset = produce(&mut broker, &place, version, 0, &batch).unwrap();
        assert_eq!(offset, samples.len() as i64);
        samples.push(sample);
    }
    let VersionRange { min, max } = FetchRequest::VERSIONS;
    for version in min..=max {
        let read = fetch_all(&mut broker, &place, version, 0, samples.len());
        sample::assert_same(&format!("Fetch {version}"), &read, &samples);
    }
    let read = kafka.tools().consume(&topic, samples.len(), &[]);
    let read: Vec<_> = read.into_iter().map(|seen| seen.sample).collect();
    sample::assert_same("read by Kafka", &read, &samples);
}

#[test]
fn sequences_wrap_to_zero_inside_a_batch() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("wrap");
    kafka.create_topic(&topic, 1, &[]);
    let mut broker = Connection::open(kafka.bootstrap());
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let id = settled(|| {
        let id = broker.call(&request, 4);
        id.error_code.ok().map(|()| id)
    })
    .unwrap();
    let mut append = |count: usize, base_sequence: i32| {
        let samples = vec![Sample::new(None, Some(b"x")); count];
        let mut batch = seal(&samples, Compression::None.into());
        batch.stamp(id.producer_id, id.producer_epoch, base_sequence, false);
        produce(&mut broker, &Place::named(&topic), 9, 0, &batch.freeze())
    };
    assert_eq!(
        append(4, i32::MAX - 1),
        Ok(0),
        "sequences 2^31-2, 2^31-1, 0, 1"
    );
    assert_eq!(append(2, 2), Ok(4));
    assert_eq!(
        append(2, 2),
        Ok(4),
        "a duplicate is answered with the offset it has"
    );
    assert_eq!(append(1, 9), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));

    let Some(cluster) = kafka.cluster() else {
        return;
    };
    let dump = cluster.dump(1, &topic, 0);
    assert_eq!(dump.numbers("baseSequence"), [i64::from(i32::MAX) - 1, 2]);
    assert_eq!(dump.numbers("lastSequence"), [1, 3]);
}

#[test]
fn what_librdkafka_writes_with_every_codec_we_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let mut samples = sample::every_shape();
    samples.push(sample::one_megabyte());
    for sample in &mut samples {
        sample.timestamp = sample.timestamp.max(1); // librdkafka takes 0 for "now"
    }
    let mut broker = Connection::open(kafka.bootstrap());
    for codec in Compression::ALL {
        let topic = unique(codec.name());
        kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
        python.produce(kafka.bootstrap(), &topic, codec.name(), &samples);
        let place = Place::named(&topic);
        let read = fetch_all(&mut broker, &place, 12, 0, samples.len());
        sample::assert_same(&format!("{codec:?} by librdkafka"), &read, &samples);
    }
}

/// A topic as a request names it: by name, and by id in the versions that know ids.
struct Place {
    name: String,
    id: Uuid,
}

impl Place {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: Uuid::ZERO,
        }
    }

    fn of(broker: &mut Connection, name: &str) -> Self {
        let topic = MetadataRequestTopic {
            name: Some(name.into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let metadata = broker.call(&request, 12);
        let id = metadata.topics[0].topic_id;
        assert_ne!(id, Uuid::ZERO);
        Self {
            name: name.to_owned(),
            id,
        }
    }
}

fn seal(samples: &[Sample], codec: Codec) -> SealedBatch {
    let mut writer = BatchWriter::new(Default::default());
    for sample in samples {
        let headers: Vec<_> = sample
            .headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        let record = NewRecord {
            timestamp: sample.timestamp,
            key: sample.key.as_deref(),
            value: sample.value.as_deref(),
            headers: &headers,
        };
        writer.append(&record).unwrap();
    }
    writer
        .seal(&SealOptions { codec }, &mut Compressor::new())
        .unwrap()
}

/// The offset that the batch was given.
fn produce(
    broker: &mut Connection,
    topic: &Place,
    version: i16,
    partition: i32,
    batch: &Bytes,
) -> Result<i64, ErrorCode> {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.as_str().into(),
            topic_id: topic.id,
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(batch.clone()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    settled(|| {
        let answer = broker.call(&request, version);
        let answer = &answer.responses[0].partition_responses[0];
        answer.error_code.ok().map(|()| answer.base_offset)
    })
}

/// Asks again while the broker is still taking up a topic or coordinator that it already announced.
fn settled<T>(mut ask: impl FnMut() -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ask() {
            Err(
                ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            settled => return settled,
        }
    }
}

/// The first `count` records of a partition.
fn fetch_all(
    broker: &mut Connection,
    topic: &Place,
    version: i16,
    partition: i32,
    count: usize,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut position = 0;
    while samples.len() < count {
        let request = FetchRequest {
            max_wait_ms: 2_000,
            min_bytes: 1,
            topics: vec![FetchTopic {
                topic: topic.name.as_str().into(),
                topic_id: topic.id,
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: position,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = broker.call(&request, version);
        let answer = &answer.responses[0].partitions[0];
        answer.error_code.ok().unwrap();
        let before = position;
        for batch in Batches::new(answer.records.clone().unwrap()) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let decoded = batch.decode(&mut Decompressor::new(), 8 << 20).unwrap();
            for record in decoded.records() {
                let record = record.unwrap();
                let owned = |bytes: &[u8]| bytes.to_vec();
                samples.push(Sample {
                    timestamp: record.timestamp(),
                    key: record.key().map(owned),
                    value: record.value().map(owned),
                    headers: record
                        .headers()
                        .map(|(key, value)| {
                            (String::from_utf8(key.to_vec()).unwrap(), value.map(owned))
                        })
                        .collect(),
                });
            }
            position = batch.next_offset();
        }
        assert!(position > before, "stuck at {position} of {count}");
    }
    samples
}
