//! A value that tasks wait for to change, waking them in the order in which they began to wait.
//!
//! As tokio's `watch`, which wakes its receivers in a random order: with it no simulation could run the same seed
//! twice alike. Locked for moments only; meant for values that are cheap to look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Changes the value. When it is dropped, nobody waits any more.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Looks at the value, and waits for it.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was looked at last.
    seen: u64,
}

/// The sender is gone: the value stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    news: Notify,
    receivers: AtomicUsize,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    gone: bool,
}

pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        let state = State {
            value,
            version: 0,
            gone: false,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                news: Notify::new(),
                receivers: AtomicUsize::new(0),
            }),
        }
    }

    /// A receiver that has seen the value as it is now.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver {
            seen: self.shared.state.lock().version,
            shared: self.shared.clone(),
        }
    }

    pub(crate) fn send_replace(&self, value: T) {
        let mut state = self.shared.state.lock();
        let old = std::mem::replace(&mut state.value, value);
        state.version += 1;
        drop(state);
        // What it does when it goes is none of those who wait for the lock.
        drop(old);
        self.shared.news.notify_waiters();
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.state.lock().value)
    }

    pub(crate) fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Ordering::Relaxed)
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.state.lock().gone = true;
        self.shared.news.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// Looks at the value; it then counts as seen.
    pub(crate) fn look<R>(&mut self, look: impl FnOnce(&T) -> R) -> R {
        let state = self.shared.state.lock();
        self.seen = state.version;
        look(&state.value)
    }

    /// Whether the sender is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.shared.state.lock().gone
    }

    /// Waits for a value that was not seen yet. Cancel-safe.
    ///
    /// # Errors
    /// [`Gone`] if there will be none.
    pub(crate) async fn changed(&mut self) -> Result<(), Gone> {
        let seen = self.seen;
        let news = |state: MutexGuard<'_, State<T>>| match state.version {
            version if version != seen => Some(Ok(version)),
            _ => state.gone.then_some(Err(Gone)),
        };
        self.seen = wait(&self.shared, news).await?;
        Ok(())
    }

    /// Waits for a value like this, which may be there already. Cancel-safe.
    ///
    /// # Errors
    /// [`Gone`] if there will be none.
    pub(crate) async fn wait_for<R>(
        &mut self,
        mut find: impl FnMut(&T) -> Option<R>,
    ) -> Result<R, Gone> {
        wait(&self.shared, |state| match find(&state.value) {
            Some(found) => Some(Ok(found)),
            None => state.gone.then_some(Err(Gone)),
        })
        .await
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks after every change until something is found.
async fn wait<T, R>(
    shared: &Shared<T>,
    mut look: impl FnMut(MutexGuard<'_, State<T>>) -> Option<R>,
) -> R {
    loop {
        let news = shared.news.notified();
        tokio::pin!(news);
        // What changes from here on wakes it.
        news.as_mut().enable();
        if let Some(found) = look(shared.state.lock()) {
            return found;
        }
        news.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sees_what_was_sent_before_it_waited() {
        let (sender, mut receiver) = channel(1);
        sender.send_replace(2);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(receiver.look(|value| *value), 2);
    }

    #[tokio::test]
    async fn a_value_is_seen_once() {
        let (sender, mut receiver) = channel(1);
        sender.send_replace(2);
        receiver.look(|_| ());
        drop(sender);
        assert_eq!(receiver.changed().await, Err(Gone));
    }

    #[tokio::test]
    async fn the_last_value_counts_when_the_sender_is_gone() {
        let (sender, mut receiver) = channel(1);
        sender.send_replace(2);
        drop(sender);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(
            receiver.wait_for(|value| (*value == 2).then_some(())).await,
            Ok(())
        );
        assert_eq!(
            receiver.wait_for(|value| (*value == 3).then_some(())).await,
            Err(Gone)
        );
    }

    #[tokio::test]
    async fn wakes_in_the_order_of_waiting() {
        let sender = Arc::new(Sender::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let (mut receiver, order) = (sender.subscribe(), order.clone());
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    order.lock().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send_replace(1);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
        assert_eq!(sender.receiver_count(), 0);
    }
}
