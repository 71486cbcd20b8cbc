//! One record at a time, at a fixed rate.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::produce::now_millis;
use crate::batch::{OpenBatch, Walked, next_offset, walk};
use crate::codec::{Codec, Contexts};
use crate::contestant::{Args, Outcome, Phase};
use crate::workload::{Workload, partition_of};

/// A producing connection and, for the way to a consumer, a consuming one.
pub(super) struct Lane {
    produce: Connection,
    fetch: Connection,
    codec: Codec,
    contexts: Contexts,
    open: OpenBatch,
    interval: Duration,
    partitions: usize,
    cursor: usize,
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
            interval: Duration::from_secs(1) / args.rate,
            partitions: args.partitions,
            cursor: 0,
            offset: 0,
        })
    }

    /// From handing the record over to its acknowledgement.
    pub(super) fn acknowledged(&mut self, pool: &Workload, phase: Phase) -> io::Result<Outcome> {
        self.paced(pool, phase, |lane, partition| {
            let started = Instant::now();
            let batch = lane
                .open
                .seal(lane.codec, &mut lane.contexts, now_millis())?;
            lane.produce.send_produce(partition, batch)?;
            lane.produce.acknowledged()?;
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
        self.paced(pool, phase, |lane, _| {
            lane.fetch.send_fetch(0, lane.offset, 1 << 20, 500)?;
            let started = Instant::now();
            let batch = lane
                .open
                .seal(lane.codec, &mut lane.contexts, now_millis())?;
            lane.produce.send_produce(0, batch)?;
            lane.fetch.fetched()?;
            let records = lane.fetch.records();
            let mut seen = Walked::default();
            walk(records, &mut lane.contexts, &mut scratch, &mut seen)?;
            lane.offset = next_offset(records).unwrap_or(lane.offset);
            let latency = started.elapsed();
            lane.produce.acknowledged()?;
            Ok(latency)
        })
    }

    fn paced(
        &mut self,
        pool: &Workload,
        phase: Phase,
        mut once: impl FnMut(&mut Self, usize) -> io::Result<Duration>,
    ) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let started = Instant::now();
        while phase.open(outcome.records) {
            let due = started + self.interval * outcome.records as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let event = pool.event(self.cursor % pool.len());
            self.cursor += 1;
            self.open.append(event);
            let latency = once(self, partition_of(event.key, self.partitions))?;
            self.open.clear();
            outcome.latencies_us.push(latency.as_micros() as u32);
            outcome.records += 1;
            outcome.value_bytes += event.value.len() as u64;
        }
        Ok(outcome)
    }
}
