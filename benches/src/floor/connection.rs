//! A blocking connection that writes requests by hand and reads replies into one buffer.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

/// A connection to the bootstrap broker.
pub(super) struct Connection {
    stream: TcpStream,
    topic: Vec<u8>,
    head: Vec<u8>,
    reply: Vec<u8>,
    /// Where in `reply` the records of the last Fetch lie.
    records: Range<usize>,
}

impl Connection {
    pub(super) fn open(bootstrap: &str, topic: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            topic: topic.into(),
            head: Vec::new(),
            reply: Vec::new(),
            records: 0..0,
        })
    }

    /// Sends Produce version 7 with one batch, all in one write if the socket takes it.
    pub(super) fn send_produce(&mut self, partition: usize, batch: &[u8]) -> io::Result<()> {
        let head = &mut self.head;
        begin(head, 0, 7);
        // No transactional id, acks=all, timeout, one topic.
        head.extend_from_slice(&(-1_i16).to_be_bytes());
        head.extend_from_slice(&(-1_i16).to_be_bytes());
        head.extend_from_slice(&30_000_i32.to_be_bytes());
        one_partition(head, &self.topic, partition);
        head.extend_from_slice(&(batch.len() as i32).to_be_bytes());
        finish(head, batch.len());
        let mut slices = [IoSlice::new(head), IoSlice::new(batch)];
        let mut unsent = &mut slices[..];
        while !unsent.is_empty() {
            match self.stream.write_vectored(unsent)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => IoSlice::advance_slices(&mut unsent, sent),
            }
        }
        Ok(())
    }

    /// Reads a Produce reply and checks its error code.
    pub(super) fn acknowledged(&mut self) -> io::Result<()> {
        self.read_reply()?;
        // Correlation id, topics, topic, partitions, index.
        let at = 4 + 4 + 2 + self.topic.len() + 4 + 4;
        no_error(i16::from_be_bytes([self.reply[at], self.reply[at + 1]]))
    }

    /// Sends Fetch version 11 for one partition, outside any session.
    pub(super) fn send_fetch(
        &mut self,
        partition: usize,
        offset: i64,
        bytes_max: i32,
        wait_ms: i32,
    ) -> io::Result<()> {
        let head = &mut self.head;
        begin(head, 1, 11);
        head.extend_from_slice(&(-1_i32).to_be_bytes());
        head.extend_from_slice(&wait_ms.to_be_bytes());
        head.extend_from_slice(&1_i32.to_be_bytes());
        head.extend_from_slice(&bytes_max.to_be_bytes());
        head.push(0);
        head.extend_from_slice(&0_i32.to_be_bytes());
        head.extend_from_slice(&(-1_i32).to_be_bytes());
        one_partition(head, &self.topic, partition);
        head.extend_from_slice(&(-1_i32).to_be_bytes());
        head.extend_from_slice(&offset.to_be_bytes());
        head.extend_from_slice(&(-1_i64).to_be_bytes());
        head.extend_from_slice(&bytes_max.to_be_bytes());
        // Nothing forgotten, no rack.
        head.extend_from_slice(&0_i32.to_be_bytes());
        head.extend_from_slice(&0_i16.to_be_bytes());
        finish(head, 0);
        self.stream.write_all(head)
    }

    /// Reads a Fetch reply of one partition; its [`records`](Self::records) stay until the next reply
    /// is read.
    pub(super) fn fetched(&mut self) -> io::Result<()> {
        self.read_reply()?;
        // Correlation id, throttle time, error, session, topics, topic, partitions, index.
        let mut at = 4 + 4 + 2 + 4 + 4 + 2 + self.topic.len() + 4 + 4;
        let reply = &self.reply;
        no_error(i16::from_be_bytes([reply[at], reply[at + 1]]))?;
        // Error, high watermark, last stable offset, log start.
        at += 2 + 8 + 8 + 8;
        let aborted = be_i32(reply, at).max(0) as usize;
        // Aborted transactions, preferred replica.
        at += 4 + 16 * aborted + 4;
        let len = be_i32(reply, at).max(0) as usize;
        self.records = at + 4..at + 4 + len;
        Ok(())
    }

    /// The records of the last Fetch reply.
    pub(super) fn records(&self) -> &[u8] {
        &self.reply[self.records.clone()]
    }

    fn read_reply(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if self.reply.len() < length {
            self.reply.resize(length, 0);
        }
        self.stream.read_exact(&mut self.reply[..length])
    }
}

fn begin(head: &mut Vec<u8>, key: i16, version: i16) {
    head.clear();
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&key.to_be_bytes());
    head.extend_from_slice(&version.to_be_bytes());
    // Replies come in order: no correlation id is looked at.
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(b"\0\x05floor");
}

fn one_partition(head: &mut Vec<u8>, topic: &[u8], partition: usize) {
    head.extend_from_slice(&1_i32.to_be_bytes());
    head.extend_from_slice(&(topic.len() as i16).to_be_bytes());
    head.extend_from_slice(topic);
    head.extend_from_slice(&1_i32.to_be_bytes());
    head.extend_from_slice(&(partition as i32).to_be_bytes());
}

fn finish(head: &mut [u8], follows: usize) {
    let length = (head.len() - 4 + follows) as i32;
    head[..4].copy_from_slice(&length.to_be_bytes());
}

fn no_error(code: i16) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::other(format!(
            "the broker answered with error {code}"
        ))),
    }
}

fn be_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
