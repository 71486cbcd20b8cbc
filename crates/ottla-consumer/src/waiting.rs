//! Who waits for records, and how they hear that there may be some.
//!
//! An application that waits is there, and is done with all that it was handed: its place in the group is kept, and automatic
//! commit goes by it. That is so until there is news. Whoever was told and does not come is busy with something else, and
//! only holds on to the future or the stream that waited.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{
    Notify,
    futures::{Notified, OwnedNotified},
};

use crate::driver::Shared;

/// Tells all who wait for records that there may be some.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    notify: Arc<Notify>,
    rings: Arc<AtomicU64>,
}

impl Bell {
    pub(crate) fn ring(&self) {
        // First: who is woken does not wait any more.
        self.rings.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_waiters();
    }

    /// How often it has rung. To be asked when one listens already, so that no ring is missed for ever, and before one looks
    /// for records for the last time, so that none counts as still to come.
    pub(crate) fn rings(&self) -> u64 {
        self.rings.load(Ordering::Acquire)
    }

    /// Ends when it rings next.
    pub(crate) fn listen(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// Of those who wait for it.
    pub(crate) fn waiters(&self) -> Waiters {
        Waiters {
            rings: self.rings.clone(),
            since: 0,
            count: 0,
        }
    }
}

/// How many calls wait for records. Those of before the latest ring do not count.
#[derive(Debug)]
pub(crate) struct Waiters {
    rings: Arc<AtomicU64>,
    /// After how many rings those began that are counted.
    since: u64,
    count: usize,
}

impl Waiters {
    pub(crate) fn any(&self) -> bool {
        self.count > 0 && self.since == self.rings.load(Ordering::Acquire)
    }

    pub(crate) fn begin(&mut self, rings: u64) {
        if rings > self.since {
            (self.since, self.count) = (rings, 0);
        }
        if rings == self.since {
            self.count += 1;
        }
    }

    pub(crate) fn end(&mut self, rings: u64) {
        if rings == self.since {
            self.count -= 1;
        }
    }
}

/// A call that waits for records. Whatever ends it ends the waiting.
pub(crate) struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    rings: u64,
}

impl<'a> Waiting<'a> {
    /// `rings`: of before it was seen that there are none.
    pub(crate) fn begin(shared: &'a Arc<Shared>, rings: u64) -> Self {
        begin_waiting(shared, rings);
        Self { shared, rings }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        end_waiting(self.shared, self.rings);
    }
}

/// The same for whoever outlives a call. After [`Parked::wait`] it must be told to [`Parked::leave`].
#[derive(Debug)]
pub(crate) struct Parked {
    news: Pin<Box<OwnedNotified>>,
    rings: u64,
}

impl Parked {
    /// Listens; it does not count as waiting yet.
    pub(crate) fn listen(bell: &Bell) -> Self {
        let mut news = Box::pin(bell.notify.clone().notified_owned());
        news.as_mut().enable();
        let rings = bell.rings();
        Self { news, rings }
    }

    pub(crate) fn wait(&self, shared: &Shared) {
        begin_waiting(shared, self.rings);
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.news.as_mut().poll(cx)
    }

    pub(crate) fn leave(self, shared: &Shared) {
        end_waiting(shared, self.rings);
    }
}

fn begin_waiting(shared: &Shared, rings: u64) {
    let mut reader = shared.reader.lock();
    reader.waiters.begin(rings);
    if std::mem::take(&mut reader.attention) {
        shared.membership.notify_one();
    }
}

fn end_waiting(shared: &Shared, rings: u64) {
    shared.reader.lock().waiters.end(rings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_counts_until_the_bell_rings() {
        let bell = Bell::default();
        let mut waiters = bell.waiters();
        let early = bell.rings();
        waiters.begin(early);
        waiters.begin(early);
        waiters.end(early);
        assert!(waiters.any());
        bell.ring();
        assert!(!waiters.any());
        let late = bell.rings();
        waiters.begin(late);
        // In whichever order those of before come and go.
        waiters.end(early);
        waiters.begin(early);
        assert!(waiters.any());
        waiters.end(late);
        assert!(!waiters.any());
    }
}
