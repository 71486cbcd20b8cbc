//! One record at a time, at a fixed rate.

use std::io;
use std::time::Instant;

use super::connection::Connection;
use super::produce::now_millis;
use crate::batch::{OpenBatch, Walked, next_offset, walk};
use crate::codec::{Codec, Contexts};
use crate::contestant::{Args, Outcome, Phase, paced};
use crate::workload::{Event, Workload, partition_of};

/// A producing connection and, for the way to a consumer, a consuming one.
pub(super) struct Lane {
    produce: Connection,
    fetch: Connection,
    codec: Codec,
    contexts: Contexts,
    open: OpenBatch,
    rate: u32,
    partitions: usize,
    /// Next offset to read of the one partition used to measure arrival.
    offset: i64,
}

impl Lane {
    pub(super) fn connect(args: &Args) -> io::Result<Self> {
        Ok(Self {
            produce: Connection::open(&args.bootstrap, &args.topic)?,
            fetch: Connection::open(&args.bootstrap, &args.topic)?,
            codec: args.codec.parse().map_err(io::Error::other)?,
            contexts: Contexts::default(),
            open: OpenBatch::default(),
            rate: args.rate,
            partitions: args.partitions,
            offset: 0,
        })
    }

    /// From handing the record over to its acknowledgement.
    pub(super) fn acknowledged(&mut self, pool: &Workload, phase: Phase) -> io::Result<Outcome> {
        paced(phase, self.rate, pool, |event| {
            let started = Instant::now();
            self.send(event, partition_of(event.key, self.partitions))?;
            self.produce.acknowledged()?;
            Ok(started.elapsed())
        })
    }

    /// From handing the record over to its arrival through a fetch that was waiting for it.
    pub(super) fn arrived(&mut self, pool: &Workload, phase: Phase) -> io::Result<Outcome> {
        let mut scratch = vec![0; 1 << 20];
        // What the topic already holds is not ours.
        loop {
            self.fetch.send_fetch(0, self.offset, 8 << 20, 0)?;
            self.fetch.fetched()?;
            match next_offset(self.fetch.records()) {
                Some(next) => self.offset = next,
                None => break,
            }
        }
        paced(phase, self.rate, pool, |event| {
            self.fetch.send_fetch(0, self.offset, 1 << 20, 500)?;
            let started = Instant::now();
            self.send(event, 0)?;
            self.fetch.fetched()?;
            let records = self.fetch.records();
            let mut seen = Walked::default();
            walk(records, &mut self.contexts, &mut scratch, &mut seen)?;
            self.offset = next_offset(records).unwrap_or(self.offset);
            let latency = started.elapsed();
            self.produce.acknowledged()?;
            Ok(latency)
        })
    }

    fn send(&mut self, event: Event<'_>, partition: usize) -> io::Result<()> {
        self.open.clear();
        self.open.append(event);
        let batch = self
            .open
            .seal(self.codec, &mut self.contexts, now_millis())?;
        self.produce.send_produce(partition, batch)
    }
}
