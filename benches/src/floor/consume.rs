//! Read, check, decompress, walk.

use std::io;

use super::THREADS;
use super::connection::Connection;
use crate::batch::{Walked, next_offset, walk};
use crate::codec::Contexts;
use crate::contestant::{Args, Outcome, Phase};

/// Asked of one partition at a time: small enough to stay in a core's cache until it is walked.
const FETCH_BYTES: i32 = 512 << 10;
/// Most bytes that one batch may decompress to.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// One thread's share of the partitions.
pub(super) struct Lane {
    connection: Connection,
    scratch: Vec<u8>,
    partitions: Vec<Position>,
    turn: usize,
}

struct Position {
    partition: usize,
    offset: i64,
    at_end: bool,
}

impl Lane {
    pub(super) fn connect(args: &Args, lane: usize) -> io::Result<Self> {
        let partitions = (lane..args.partitions).step_by(THREADS);
        let mut lane = Self {
            connection: Connection::open(&args.bootstrap, &args.topic)?,
            scratch: vec![0; BATCH_BYTES_MAX],
            partitions: partitions
                .map(|partition| Position {
                    partition,
                    offset: 0,
                    at_end: false,
                })
                .collect(),
            turn: 0,
        };
        lane.ask()?;
        Ok(lane)
    }

    /// One request is always under way: the next is sent before a reply is walked. Ends early when
    /// all partitions are read to their ends.
    pub(super) fn run(&mut self, phase: Phase) -> io::Result<Outcome> {
        // Made here because they must not move between threads.
        let mut contexts = Contexts::default();
        let mut seen = Walked::default();
        while phase.open(seen.records) && !self.partitions.iter().all(|position| position.at_end) {
            self.connection.fetched()?;
            let position = &mut self.partitions[self.turn];
            let next = next_offset(self.connection.records());
            position.at_end = next.is_none();
            position.offset = next.unwrap_or(position.offset);
            self.turn = (self.turn + 1) % self.partitions.len();
            self.ask()?;
            walk(
                self.connection.records(),
                &mut contexts,
                &mut self.scratch,
                &mut seen,
            )?;
        }
        std::hint::black_box(seen.touched);
        Ok(Outcome {
            records: seen.records,
            value_bytes: seen.value_bytes,
            ..Outcome::default()
        })
    }

    fn ask(&mut self) -> io::Result<()> {
        let position = &self.partitions[self.turn];
        self.connection
            .send_fetch(position.partition, position.offset, FETCH_BYTES, 0)
    }
}
