//! Counts batches whose outcome is open, so that `flush` knows when those it found are settled; and tells
//! outcomes to those who watch all of them.
//!
//! Batches count in generations; a flush closes the current one and waits until it and all before
//! are empty. Two short locks per batch, none per record, and no list of batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::config::ProducerConfig;
use crate::delivery::Outcome;
use crate::error::{SendError, TopicPartition};
use crate::interceptor::Interceptors;
use crate::metrics::Meters;
use crate::spans::Spans;

#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    generations: Mutex<Generations>,
    settled: Notify,
    /// The first batch that failed since this was last cleared.
    failure: Mutex<Option<SendError>>,
    /// Whether there is one, to be read for every record.
    has_failed: AtomicBool,
    failed: Notify,
    pub(crate) meters: Meters,
    pub(crate) interceptors: Interceptors,
    pub(crate) spans: Spans,
    /// `queue.buffering.max.messages`, if there is such a bound: places that records give back with
    /// their outcome.
    pub(crate) places: Option<Arc<Budget>>,
}

#[derive(Debug, Default)]
struct Generations {
    /// The number of the oldest generation kept.
    oldest: u64,
    /// Open batches per generation from `oldest` on, the current one last. Empty only before the first batch.
    open: VecDeque<u64>,
}

impl Outstanding {
    pub(crate) fn new(config: &ProducerConfig, client_id: &str) -> Self {
        let places = config.buffer_records_max;
        Self {
            interceptors: config.interceptors.clone(),
            spans: Spans {
                client_id: client_id.into(),
            },
            places: (places > 0).then(|| Budget::new(places)),
            ..Self::default()
        }
    }

    /// A batch of `records`, which are `bytes` on the wire, has its outcome.
    pub(crate) fn outcome(
        &self,
        at: &TopicPartition,
        records: u32,
        bytes: usize,
        outcome: &Outcome,
    ) {
        let split = matches!(outcome, Outcome::Split(_));
        if records == 0 && !split {
            return; // Its first record was refused: nobody's outcome.
        }
        if !self.interceptors.is_empty() {
            self.interceptors.on_outcome(at, records, outcome);
        }
        self.meters.settled(records, bytes, outcome);
        if let Some(places) = &self.places
            && !split
        {
            places.release(records as usize);
        }
    }

    /// Counts a new batch; gives its generation.
    pub(crate) fn opened(&self) -> u64 {
        let mut generations = self.generations.lock();
        if generations.open.is_empty() {
            generations.open.push_back(0);
        }
        let current = generations.open.len() - 1;
        generations.open[current] += 1;
        generations.oldest + current as u64
    }

    /// Counts another batch in `generation`, which has an open batch.
    pub(crate) fn opened_in(&self, generation: u64) {
        let mut generations = self.generations.lock();
        let at = (generation - generations.oldest) as usize;
        generations.open[at] += 1;
    }

    pub(crate) fn resolved(&self, generation: u64) {
        let mut generations = self.generations.lock();
        let at = (generation - generations.oldest) as usize;
        generations.open[at] -= 1;
        let before = generations.oldest;
        while generations.open.len() > 1 && generations.open[0] == 0 {
            generations.open.pop_front();
            generations.oldest += 1;
        }
        if generations.oldest != before {
            drop(generations);
            self.settled.notify_waiters();
        }
    }

    /// A batch failed; to be told before it counts as resolved.
    pub(crate) fn note_failure(&self, error: &SendError) {
        self.failure.lock().get_or_insert_with(|| error.clone());
        self.has_failed.store(true, Ordering::Release);
        self.failed.notify_waiters();
    }

    /// Why the first batch failed that did, since [`forget_failure`](Self::forget_failure).
    pub(crate) fn failure(&self) -> Option<SendError> {
        self.failure.lock().clone()
    }

    pub(crate) fn forget_failure(&self) {
        *self.failure.lock() = None;
        self.has_failed.store(false, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Waits for a failure. Cancel safe.
    pub(crate) async fn failed(&self) {
        loop {
            let notified = self.failed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.has_failed() {
                return;
            }
            notified.await;
        }
    }

    /// Waits until every batch opened before this call is settled. Cancel safe.
    pub(crate) async fn settled(&self) {
        let target = {
            let mut generations = self.generations.lock();
            if generations.open.iter().all(|open| *open == 0) {
                return;
            }
            // Nothing has opened since the last call: its end is this one's, too.
            if generations.open.back().is_none_or(|open| *open > 0) {
                generations.open.push_back(0);
            }
            generations.oldest + generations.open.len() as u64 - 1
        };
        loop {
            let notified = self.settled.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.generations.lock().oldest >= target {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_what_was_open_and_for_nothing_newer() {
        let outstanding = Outstanding::default();
        outstanding.settled().await; // Nothing open: at once.

        let (a, b) = (outstanding.opened(), outstanding.opened());
        let flush = outstanding.settled();
        tokio::pin!(flush);
        assert!(futures_poll(&mut flush).is_pending());
        let newer = outstanding.opened();
        assert_ne!(newer, a);
        outstanding.resolved(b);
        assert!(futures_poll(&mut flush).is_pending());
        outstanding.resolved(a);
        assert!(futures_poll(&mut flush).is_ready());
        outstanding.resolved(newer);
        outstanding.settled().await;
    }

    #[tokio::test]
    async fn later_generations_may_settle_first() {
        let outstanding = Outstanding::default();
        let old = outstanding.opened();
        let first = outstanding.settled();
        tokio::pin!(first);
        assert!(futures_poll(&mut first).is_pending());
        let young = outstanding.opened();
        let second = outstanding.settled();
        tokio::pin!(second);
        assert!(futures_poll(&mut second).is_pending());
        outstanding.resolved(young);
        assert!(
            futures_poll(&mut second).is_pending(),
            "the older batch is open"
        );
        outstanding.resolved(old);
        assert!(futures_poll(&mut first).is_ready());
        assert!(futures_poll(&mut second).is_ready());
    }

    #[tokio::test]
    async fn calls_that_are_given_up_leave_nothing_behind() {
        let outstanding = Outstanding::default();
        let old = outstanding.opened();
        for _ in 0..1000 {
            let flush = outstanding.settled();
            tokio::pin!(flush);
            assert!(futures_poll(&mut flush).is_pending());
        }
        assert_eq!(outstanding.generations.lock().open.len(), 2);
        let flush = outstanding.settled();
        tokio::pin!(flush);
        assert!(futures_poll(&mut flush).is_pending());
        outstanding.resolved(old);
        assert!(futures_poll(&mut flush).is_ready());
    }

    fn futures_poll<F: Future>(future: &mut std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
