//! Batches that are kept as they came, between batches that are gathered: all of them are read as they were written.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use bytes::Bytes;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::ErrorCode;
use ottla_wire::compress::Decompressor;
use ottla_wire::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_wire::record::Batches;

mod support;
use support::{Client, batch, fetch_request};

/// Values of these lengths, a batch each.
fn value(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + seed) as u8).collect()
}

fn request(batches: &[(i32, Bytes)]) -> ProduceRequest {
    let partition_data = batches.iter().map(|(index, records)| PartitionProduceData {
        index: *index,
        records: Some(records.clone()),
        ..Default::default()
    });
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: partition_data.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn large_and_small_batches_are_read_as_they_were_written() {
    let cluster = EmbeddedCluster::start_in_memory(BrokerOptions {
        topics: vec![("t".into(), 2)],
        ..Default::default()
    })
    .unwrap();
    let mut client = Client::new(cluster.connect(1).unwrap());
    let lengths = [
        10, 300_000, 20, 30, 200_000, 131_072, 900_000, 5, 131_000, 400_000,
    ];
    let mut written = [Vec::new(), Vec::new()];
    for (seed, lengths) in lengths.windows(2).enumerate() {
        let values = [value(lengths[0], seed), value(lengths[1], seed + 1)];
        let batches: Vec<(i32, Bytes)> = (0..)
            .zip(&values)
            .map(|(index, value)| (index, batch(&[value, b"last"])))
            .collect();
        let response = client.ask(&request(&batches), 9).await.unwrap();
        for (answer, value) in response.responses[0].partition_responses.iter().zip(values) {
            assert_eq!(answer.error_code, ErrorCode::NONE);
            let written = &mut written[answer.index as usize];
            assert_eq!(answer.base_offset, written.len() as i64);
            written.push(value);
            written.push(b"last".to_vec());
        }
    }
    for (index, written) in (0..).zip(&written) {
        for step in [1, 200_000, 5_000_000] {
            let mut read = Vec::new();
            while read.len() < written.len() {
                let mut ask = fetch_request("t", index, read.len() as i64, 0);
                ask.topics[0].partitions[0].partition_max_bytes = step;
                let mut response = client.ask(&ask, 12).await.unwrap();
                let data = response.responses.remove(0).partitions.remove(0);
                assert_eq!(data.error_code, ErrorCode::NONE);
                for batch in Batches::new(data.records.unwrap()) {
                    let batch = batch.unwrap();
                    batch.verify_crc().unwrap();
                    let decoded = batch.decode(&mut Decompressor::new(), 1 << 30).unwrap();
                    for record in decoded.records() {
                        let record = record.unwrap();
                        assert_eq!(record.offset(), read.len() as i64);
                        read.push(record.value().unwrap().to_vec());
                    }
                }
            }
            assert!(
                read == *written,
                "partition {index}, {step} bytes at a time"
            );
        }
    }
}
