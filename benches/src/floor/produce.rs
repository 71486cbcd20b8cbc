//! Encode, compress, checksum, write.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::connection::Connection;
use crate::batch::OpenBatch;
use crate::codec::{Codec, Contexts};
use crate::contestant::{Args, Outcome, Phase};
use crate::workload::{Workload, partition_of};

/// A batch goes out when its plain records are this large, unless told otherwise. Twelve of them per thread still fit a
/// core's cache, and larger ones compress no better.
const BATCH_BYTES: usize = 128 << 10;
/// Requests sent and not yet acknowledged.
const IN_FLIGHT: usize = 5;

/// One thread's share of the work.
pub(super) struct Lane {
    connection: Connection,
    codec: Codec,
    batch_bytes: usize,
    open: Vec<OpenBatch>,
    in_flight: usize,
    /// Where in the pool this lane goes on.
    cursor: usize,
}

impl Lane {
    pub(super) fn connect(args: &Args, lane: usize) -> io::Result<Self> {
        Ok(Self {
            connection: Connection::open(&args.bootstrap, &args.topic)?,
            codec: args.codec.parse().map_err(io::Error::other)?,
            batch_bytes: args.batch_bytes.unwrap_or(BATCH_BYTES),
            open: (0..args.partitions).map(|_| OpenBatch::default()).collect(),
            in_flight: 0,
            cursor: lane * 7919,
        })
    }

    pub(super) fn run(&mut self, pool: &Workload, phase: Phase) -> io::Result<Outcome> {
        // Made here because they must not move between threads.
        let mut contexts = Contexts::default();
        let mut outcome = Outcome::default();
        while phase.open(outcome.records) {
            for _ in 0..256 {
                let event = pool.event(self.cursor % pool.len());
                self.cursor += 1;
                let partition = partition_of(event.key, self.open.len());
                self.open[partition].append(event);
                outcome.value_bytes += event.value.len() as u64;
                if self.open[partition].len() >= self.batch_bytes {
                    self.send(partition, &mut contexts)?;
                }
            }
            outcome.records += 256;
        }
        for partition in 0..self.open.len() {
            if !self.open[partition].is_empty() {
                self.send(partition, &mut contexts)?;
            }
        }
        while self.in_flight > 0 {
            self.acknowledged()?;
        }
        Ok(outcome)
    }

    fn send(&mut self, partition: usize, contexts: &mut Contexts) -> io::Result<()> {
        let open = &mut self.open[partition];
        let batch = open.seal(self.codec, contexts, now_millis())?;
        self.connection.send_produce(partition, batch)?;
        open.clear();
        self.in_flight += 1;
        if self.in_flight > IN_FLIGHT {
            self.acknowledged()?;
        }
        Ok(())
    }

    fn acknowledged(&mut self) -> io::Result<()> {
        self.in_flight -= 1;
        self.connection.acknowledged()
    }
}

/// The time for a batch's timestamps.
pub(super) fn now_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
