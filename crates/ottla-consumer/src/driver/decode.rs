//! Decompression ahead of the application, on threads meant for blocking work.
//!
//! The application decodes what it takes, if nobody did before: the cheapest way, because the data then lies
//! in its processor's cache. Only compressed batches behind the next one are given to other threads, so
//! that a reader of heavily compressed topics can use more than one core.

use std::sync::Arc;

use ottla_wire::compress::Decompressor;

use super::Shared;
use crate::payload::{DecodeLimits, Payload};

pub(super) async fn run(shared: Arc<Shared>) {
    let limits = DecodeLimits::of(&shared.config);
    let mut decompressor = Decompressor::new();
    loop {
        let work = shared.core(|core| core.take_work(WORK_BYTES, Payload::is_heavy));
        if work.is_empty() {
            shared.decoding.notified().await;
            continue;
        }
        let decode = move || {
            let done: Vec<_> = work
                .into_iter()
                .map(|(token, number, payload)| {
                    let (payload, bytes) = match payload.decode(limits, &mut decompressor) {
                        Ok(batch) => {
                            let bytes = batch.body_len();
                            (Payload::Decoded(batch), bytes)
                        }
                        Err(error) => (Payload::Unreadable(error), 0),
                    };
                    (token, number, payload, bytes)
                })
                .collect();
            (done, decompressor)
        };
        let decoding = if shared.config.blocking_threads {
            tokio::task::spawn_blocking(decode)
        } else {
            tokio::spawn(async move { decode() })
        };
        let Ok((done, returned)) = decoding.await else {
            // Only when the runtime shuts down.
            return;
        };
        decompressor = returned;
        shared.core(|core| {
            for (token, number, payload, bytes) in done {
                core.return_work(token, number, payload, bytes);
            }
        });
    }
}

/// How many compressed bytes are taken at a time: enough to be worth the way to another thread and back.
const WORK_BYTES: usize = 256 * 1024;
