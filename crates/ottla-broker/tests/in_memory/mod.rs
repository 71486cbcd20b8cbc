//! Clusters and clients over memory: what is asked must be answered, and records have keys.

#![allow(dead_code, reason = "each test uses what it needs")]

use bytes::{Bytes, BytesMut};
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::Request;
use ottla_wire::compress::{Compressor, Decompressor};
use ottla_wire::messages::fetch::PartitionData;
use ottla_wire::messages::produce::PartitionProduceResponse;
use ottla_wire::record::{BatchWriter, Batches, NewRecord, SealOptions, SealedBatch};
use tokio::io::DuplexStream;

use crate::support::{self, fetch_request, produce_request};

/// One connection to one node.
pub(crate) struct Client(support::Client<DuplexStream>);

impl Client {
    pub(crate) fn new(cluster: &EmbeddedCluster, node: i32) -> Self {
        Self(support::Client::new(cluster.connect(node).unwrap()))
    }

    pub(crate) async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.0.ask(request, version).await.unwrap()
    }

    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, records);
        let mut response = self.ask(&request, 9).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> PartitionData {
        let request = fetch_request(topic, partition, offset, 0);
        let mut response = self.ask(&request, 12).await;
        response.responses.remove(0).partitions.remove(0)
    }
}

pub(crate) fn cluster(nodes: u16) -> EmbeddedCluster {
    let options = BrokerOptions {
        nodes,
        ..Default::default()
    };
    EmbeddedCluster::start_in_memory(options).unwrap()
}

/// A record's key and value.
pub(crate) type Entry<'a> = (Option<&'a str>, Option<&'a str>);

pub(crate) fn sealed(entries: &[Entry<'_>], timestamp: i64) -> SealedBatch {
    let mut writer = BatchWriter::new(BytesMut::new());
    for (key, value) in entries {
        let record = NewRecord {
            timestamp,
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            headers: &[],
        };
        writer.append(&record).unwrap();
    }
    let options = SealOptions::default();
    writer.seal(&options, &mut Compressor::new()).unwrap()
}

pub(crate) fn batch(entries: &[Entry<'_>]) -> Bytes {
    sealed(entries, 1000).freeze()
}

/// Offset and value of every record in what a fetch brought; of a marker, what it says.
pub(crate) fn records(data: &PartitionData) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    for batch in Batches::new(data.records.clone().unwrap_or_default()) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if let Some(kind) = batch.control_type().unwrap() {
            all.push((batch.base_offset(), format!("{kind:?}")));
            continue;
        }
        let decoded = batch.decode(&mut Decompressor::new(), 1 << 20).unwrap();
        for record in decoded.records() {
            let record = record.unwrap();
            let value = record.value().unwrap_or(b"null");
            let value = String::from_utf8_lossy(value).into_owned();
            all.push((record.offset(), value));
        }
    }
    all
}
