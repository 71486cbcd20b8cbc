//! Whether the application comes for records often enough to keep its place in a group
//! (`max.poll.interval.ms`).

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Presence {
    interval_max: Duration,
    /// When the application last came for records, or ended waiting for them.
    last_poll: Option<Instant>,
    /// Whether it waits for records right now.
    waiting: bool,
}

impl Presence {
    pub(super) fn new(interval_max: Duration) -> Self {
        Self {
            interval_max,
            last_poll: None,
            waiting: false,
        }
    }

    /// It has just subscribed.
    pub(super) fn begins(&mut self, now: Instant) {
        self.last_poll = Some(now);
    }

    /// It came for records (`waiting`), or stopped waiting for them.
    pub(super) fn polls(&mut self, waiting: bool, now: Instant) {
        self.waiting = waiting;
        self.last_poll = Some(now);
    }

    /// When it has stayed away for too long; never while it waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let last = self.last_poll.filter(|_| !self.waiting)?;
        Some(last + self.interval_max)
    }

    /// Says why the group is left.
    pub(super) fn warn(&self) {
        tracing::warn!(
            "the application did not ask for records for max.poll.interval.ms = {} ms: leaving the \
             group until it does; raise the setting, or lower max.poll.records",
            self.interval_max.as_millis()
        );
    }
}
