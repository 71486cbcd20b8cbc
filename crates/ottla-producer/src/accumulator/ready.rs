//! Partitions that have something for a broker's sender, now or when their linger ends.
//!
//! Costs what is ready, never what exists: a partition is entered when its first batch opens or a batch fills, and
//! the sender is woken only if it has no earlier reason to look.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What one sender is told.
#[derive(Debug)]
pub(crate) struct Line<T> {
    ready: Mutex<Ready<T>>,
    notify: Notify,
}

#[derive(Debug)]
pub(crate) struct Ready<T> {
    due: Vec<T>,
    /// Linger is the same for all, so ends come in the order of entry.
    lingering: VecDeque<(Instant, T)>,
    hurried: bool,
}

impl<T> Line<T> {
    pub(crate) fn new() -> Self {
        let ready = Ready {
            due: Vec::new(),
            lingering: VecDeque::new(),
            hurried: false,
        };
        Self {
            ready: Mutex::new(ready),
            notify: Notify::new(),
        }
    }

    /// `item` has something to send now.
    pub(crate) fn due(&self, item: T) {
        let mut ready = self.ready.lock();
        ready.due.push(item);
        let first = ready.due.len() == 1;
        drop(ready);
        if first {
            self.notify.notify_one();
        }
    }

    /// `item` has something to send from `end` on.
    pub(crate) fn lingers(&self, end: Instant, item: T) {
        let mut ready = self.ready.lock();
        ready.lingering.push_back((end, item));
        let first = ready.lingering.len() == 1;
        drop(ready);
        if first {
            self.notify.notify_one();
        }
    }

    /// Whatever lingers is due.
    pub(crate) fn hurry(&self) {
        self.ready.lock().hurried = true;
        self.notify.notify_one();
    }

    /// Makes the sender look again.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits for news since the last wait. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Moves what is due at `now` to `due`, and what was hurried to `hurried`. Gives the time of the next.
    pub(crate) fn take(
        &self,
        now: Instant,
        due: &mut Vec<T>,
        hurried: &mut Vec<T>,
    ) -> Option<Instant> {
        let mut ready = self.ready.lock();
        due.append(&mut ready.due);
        while let Some((end, _)) = ready.lingering.front()
            && *end <= now
        {
            due.extend(ready.lingering.pop_front().map(|(_, item)| item));
        }
        if std::mem::take(&mut ready.hurried) {
            hurried.extend(ready.lingering.drain(..).map(|(_, item)| item));
        }
        ready.lingering.front().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wakes_once_for_many() {
        let line = Line::new();
        let (now, mut due, mut hurried) = (Instant::now(), Vec::new(), Vec::new());
        line.due(1);
        line.due(2);
        line.lingers(now + Duration::from_millis(5), 3);
        line.lingers(now + Duration::from_millis(7), 4);
        line.changed().await;
        let next = line.take(now, &mut due, &mut hurried);
        assert_eq!((due.as_slice(), hurried.as_slice()), (&[1, 2][..], &[][..]));
        assert_eq!(next, Some(now + Duration::from_millis(5)));
        let next = line.take(now + Duration::from_millis(5), &mut due, &mut hurried);
        assert_eq!(due, [1, 2, 3]);
        assert_eq!(next, Some(now + Duration::from_millis(7)));
        line.hurry();
        assert_eq!(line.take(now, &mut due, &mut hurried), None);
        assert_eq!(hurried, [4]);
    }
}
