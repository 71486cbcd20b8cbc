//! Decompression ahead of the application, on threads meant for blocking work.
//!
//! The application decodes what it takes, if nobody did before: the cheapest way, because the data then lies
//! in its processor's cache. Only compressed batches behind the next one are given to other threads, so
//! that a reader of heavily compressed topics can use more than one core.
//!
//! One job at a time, for a consumer that is read as a whole. The readers of single partitions would wait for each other's
//! batches: for them there are some jobs side by side, each of one partition.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Shared;
use crate::{
    core::Token,
    payload::{DecodeLimits, Payload},
};

/// Batches by their numbers, decoded, with how much they occupy.
type Done = Vec<(Token, u64, Payload, usize)>;

pub(super) async fn run(shared: Arc<Shared>) {
    let mut jobs: JoinSet<Done> = JoinSet::new();
    loop {
        let jobs_out = jobs.len();
        let work = shared.core(|core| {
            let jobs_max = if core.is_split() { JOBS_MAX } else { 1 };
            match jobs_out < jobs_max {
                true => core.take_work(WORK_BYTES, Payload::is_heavy),
                false => Vec::new(),
            }
        });
        if !work.is_empty() {
            begin(&shared, &mut jobs, work);
            continue;
        }
        let done = tokio::select! {
            biased;
            Some(done) = jobs.join_next() => done,
            () = shared.decoding.notified() => continue,
        };
        // Only when the runtime shuts down.
        let Ok(done) = done else { return };
        shared.core(|core| {
            for (token, number, payload, bytes) in done {
                core.return_work(token, number, payload, bytes);
            }
        });
    }
}

fn begin(shared: &Arc<Shared>, jobs: &mut JoinSet<Done>, work: Vec<(Token, u64, Payload)>) {
    let limits = DecodeLimits::of(&shared.config);
    let blocking = shared.config.blocking_threads;
    let shared = shared.clone();
    let decode = move || {
        let done = work.into_iter().map(|(token, number, payload)| {
            let (payload, bytes) = match shared.decompressors.decode(payload, limits) {
                Ok(batch) => {
                    let bytes = batch.body_len();
                    (Payload::Decoded(batch), bytes)
                }
                Err(error) => (Payload::Unreadable(error), 0),
            };
            (token, number, payload, bytes)
        });
        done.collect()
    };
    if blocking {
        jobs.spawn_blocking(decode);
    } else {
        jobs.spawn(async move { decode() });
    }
}

/// How many compressed bytes are taken at a time: enough to be worth the way to another thread and back.
const WORK_BYTES: usize = 256 * 1024;

/// How many partitions are decoded ahead at the same time, where they are read one by one. The same on every machine, so
/// that a simulation is.
const JOBS_MAX: usize = 4;
