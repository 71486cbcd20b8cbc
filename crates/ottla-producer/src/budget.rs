//! `buffer.memory`: how many bytes records may occupy, and the queue of callers who wait for some.
//!
//! Bytes are taken as batches grow, not per record, and return when the batch is settled. Waiting
//! callers are served in the order they came; a caller that stops waiting gives back what it had been
//! given so far. Never looks at what the bytes are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

#[derive(Debug)]
pub(crate) struct Budget {
    free: Semaphore,
    capacity: usize,
    waiting: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        let free = Semaphore::new(capacity);
        Arc::new(Self {
            free,
            capacity,
            waiting: AtomicUsize::new(0),
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.capacity - self.free.available_permits()
    }

    /// Whether a caller is waiting: then every open batch should be on its way.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Takes `bytes` if they are free and nobody waits.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let permit = self
            .free
            .try_acquire_many(u32::try_from(bytes).ok()?)
            .ok()?;
        permit.forget();
        Some(Reserved {
            budget: self.clone(),
            bytes,
        })
    }

    /// Waits for `bytes`, at most [`capacity`](Self::capacity), in the order of calls. `None` when the producer was closed. Cancel safe.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let permit = self
            .free
            .acquire_many(u32::try_from(bytes).ok()?)
            .await
            .ok()?;
        permit.forget();
        Some(Reserved {
            budget: self.clone(),
            bytes,
        })
    }

    /// Returns `bytes` that were [kept](Reserved::keep).
    pub(crate) fn release(&self, bytes: usize) {
        self.free.add_permits(bytes);
    }

    /// Callers who wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Turns away all who wait, now and later.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

/// Bytes taken from a [`Budget`]; dropping it returns them.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reserved {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Leaves it to somebody else to [release](Budget::release) the bytes.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }

    /// Takes `more` bytes if they are free and nobody waits.
    pub(crate) fn try_grow(&mut self, more: usize) -> bool {
        self.budget
            .try_reserve(more)
            .map(|grown| self.absorb(grown))
            .is_some()
    }

    /// Joins `other`, which is of the same budget, to this.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Splits off `bytes`, at most all.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: self.budget.clone(),
            bytes,
        }
    }

    /// Returns what exceeds `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        drop(self.split(self.bytes.saturating_sub(bytes)));
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.free.add_permits(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn what_is_taken_returns() {
        let budget = Budget::new(100);
        let mut a = budget.try_reserve(60).unwrap();
        assert!(budget.try_reserve(41).is_none());
        assert!(a.try_grow(40));
        assert_eq!(budget.used(), 100);
        a.shrink_to(30);
        assert_eq!(budget.used(), 30);
        let b = a.split(10);
        drop(a);
        assert_eq!((budget.used(), b.bytes()), (10, 10));
        drop(b);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn callers_are_served_in_order_and_may_leave() {
        let budget = Budget::new(100);
        let held = budget.try_reserve(100).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut large = pin!(budget.reserve(80));
            let mut small = pin!(budget.reserve(10));
            assert!(large.as_mut().poll(&mut cx).is_pending());
            assert!(small.as_mut().poll(&mut cx).is_pending());
            assert!(budget.is_short());
            let mut held = held;
            held.shrink_to(50);
            assert!(
                small.as_mut().poll(&mut cx).is_pending(),
                "the large one came first"
            );
            assert!(budget.try_reserve(1).is_none(), "nobody overtakes");
        }
        assert_eq!(budget.used(), 0, "those who left gave back what they had");
        assert!(!budget.is_short());
    }

    #[test]
    fn a_closed_budget_turns_callers_away() {
        let budget = Budget::new(10);
        let _held = budget.try_reserve(10).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting = pin!(budget.reserve(5));
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        budget.close();
        let std::task::Poll::Ready(refused) = waiting.as_mut().poll(&mut cx) else {
            panic!("still waiting")
        };
        assert!(refused.is_none());
    }
}
