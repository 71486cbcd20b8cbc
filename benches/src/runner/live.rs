//! Topics in a live broker, made and removed by hand-written requests.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::settings::Cell;
use crate::workload::PARTITIONS;

/// A topic made for one cell, or for one group.
#[derive(Debug)]
pub struct Live {
    /// Where its broker is.
    pub bootstrap: String,
    /// Its name.
    pub topic: String,
}

const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const TIMEOUT_MS: i32 = 30_000;

impl Live {
    pub(super) fn for_cell(bootstrap: &str, cell: &Cell) -> io::Result<Self> {
        let topic = format!(
            "ottla-bench-{}-{}-{}-{}",
            cell.mode_name(),
            cell.size,
            cell.codec,
            std::process::id()
        );
        Self::create(bootstrap, topic)
    }

    /// Creates a topic of twelve partitions.
    ///
    /// # Errors
    /// When the broker cannot be reached or does not want to.
    pub fn create(bootstrap: &str, topic: String) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend_from_slice(&1_i32.to_be_bytes());
        string(&mut body, &topic);
        body.extend_from_slice(&(PARTITIONS as i32).to_be_bytes());
        body.extend_from_slice(&1_i16.to_be_bytes());
        // No assignments, no configs; timeout; do it, do not only validate it.
        body.extend_from_slice(&[0; 8]);
        body.extend_from_slice(&TIMEOUT_MS.to_be_bytes());
        body.push(0);
        let reply = call(bootstrap, CREATE_TOPICS, 2, &body)?;
        // Throttle time, topics, name, error.
        let at = 4 + 4 + 2 + topic.len();
        expect_no_error(&reply, at, &format!("create topic {topic}"))?;
        // Leaders follow the reply by a moment.
        thread::sleep(Duration::from_secs(1));
        Ok(Self {
            bootstrap: bootstrap.into(),
            topic,
        })
    }

    /// Deletes it again.
    ///
    /// # Errors
    /// When the broker cannot be reached or does not want to.
    pub fn delete_topic(self) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend_from_slice(&1_i32.to_be_bytes());
        string(&mut body, &self.topic);
        body.extend_from_slice(&TIMEOUT_MS.to_be_bytes());
        let reply = call(&self.bootstrap, DELETE_TOPICS, 1, &body)?;
        let at = 4 + 4 + 2 + self.topic.len();
        expect_no_error(&reply, at, &format!("delete topic {}", self.topic))
    }
}

fn string(body: &mut Vec<u8>, value: &str) {
    body.extend_from_slice(&(value.len() as i16).to_be_bytes());
    body.extend_from_slice(value.as_bytes());
}

/// Sends one request and returns the reply behind its correlation id.
fn call(bootstrap: &str, key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(bootstrap)
        .map_err(|error| io::Error::new(error.kind(), format!("{bootstrap}: {error}")))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = Vec::new();
    head.extend_from_slice(&key.to_be_bytes());
    head.extend_from_slice(&version.to_be_bytes());
    head.extend_from_slice(&0_i32.to_be_bytes());
    string(&mut head, "ottla-bench");
    stream.write_all(&((head.len() + body.len()) as i32).to_be_bytes())?;
    stream.write_all(&head)?;
    stream.write_all(body)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; (u32::from_be_bytes(length) as usize).min(1 << 20)];
    stream.read_exact(&mut reply)?;
    Ok(reply.split_off(reply.len().min(4)))
}

fn expect_no_error(reply: &[u8], at: usize, what: &str) -> io::Result<()> {
    match reply.get(at..at + 2) {
        Some([0, 0]) => Ok(()),
        Some(code) => Err(io::Error::other(format!(
            "could not {what}: the broker answered with error {}",
            i16::from_be_bytes([code[0], code[1]])
        ))),
        None => Err(io::Error::other(format!(
            "could not {what}: the reply is too short"
        ))),
    }
}
