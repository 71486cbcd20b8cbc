//! A client with no comforts: one connection, one request after the other, every field in the test's hands.
#![allow(dead_code, reason = "each test uses what it needs")]

pub(crate) mod process;
pub(crate) mod share;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_wire::compress::{Codec, Compression, Compressor};
use ottla_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use ottla_wire::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use ottla_wire::record::{BatchWriter, NewRecord, SealOptions};
use ottla_wire::{ErrorCode, Request, decode_response, encode_request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    correlation_id: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            correlation_id: 0,
        }
    }

    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.correlation_id += 1;
        let frame = encode_request(request, version, self.correlation_id, Some("test"))
            .map_err(io::Error::other)?;
        self.stream.write_all(&frame.to_bytes()).await
    }

    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let body = self.receive_frame().await?;
        decode_response::<R>(version, body).map_err(io::Error::other)
    }

    pub(crate) async fn receive_frame(&mut self) -> io::Result<Bytes> {
        let len = self.stream.read_u32().await?;
        let mut body = vec![0; len as usize];
        self.stream.read_exact(&mut body).await?;
        Ok(body.into())
    }

    pub(crate) async fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> io::Result<R::Response> {
        self.send(request, version).await?;
        self.receive::<R>(version).await
    }

    /// Produces one record per value as one batch.
    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        values: &[&[u8]],
    ) -> io::Result<PartitionProduceResponse> {
        let request = produce_request(topic, partition, batch(values));
        let mut response = self.ask(&request, 9).await?;
        Ok(response.responses.remove(0).partition_responses.remove(0))
    }

    pub(crate) async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> io::Result<PartitionData> {
        let request = fetch_request(topic, partition, offset, 0);
        let mut response = self.ask(&request, 12).await?;
        assert_eq!(response.error_code, ErrorCode::NONE);
        Ok(response.responses.remove(0).partitions.remove(0))
    }
}

pub(crate) fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(records),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    wait_ms: i32,
) -> FetchRequest {
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                partition_max_bytes: i32::MAX,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    sealed(values, Compression::None)
}

/// One record, as small as zstd makes it.
pub(crate) fn compressed(value: &[u8]) -> Bytes {
    sealed(&[value], Compression::Zstd)
}

fn sealed(values: &[&[u8]], compression: Compression) -> Bytes {
    let mut writer = BatchWriter::new(BytesMut::new());
    for value in values {
        let record = NewRecord {
            timestamp: 1,
            key: None,
            value: Some(value),
            headers: &[],
        };
        writer.append(&record).unwrap();
    }
    let options = SealOptions {
        codec: Codec::from(compression),
    };
    writer
        .seal(&options, &mut Compressor::new())
        .unwrap()
        .freeze()
}

/// A runtime of one thread whose clock stands still and jumps when nothing else is left to do.
pub(crate) fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

/// As long as any test may take.
pub(crate) const LONG: Duration = Duration::from_secs(60);
