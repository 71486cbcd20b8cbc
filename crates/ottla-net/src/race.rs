//! Tries several ways one after the other, without waiting for a silent one.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The first success among `attempts`, each of which starts as soon as one before it fails, or
/// when the one before it has been silent for `head_start`. The others are dropped.
///
/// # Errors
/// All failures, in the order in which they happened, when there is no success; none if there was
/// no attempt.
pub(crate) async fn first_success<T, E, F>(
    attempts: impl IntoIterator<Item = F>,
    head_start: Duration,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.into_iter();
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut failures = Vec::new();
    let mut first = true;
    let timer = sleep_until(Instant::now());
    tokio::pin!(timer);

    std::future::poll_fn(|cx| {
        loop {
            let mut one_failed = false;
            let mut n = 0;
            while n < running.len() {
                match running[n].as_mut().poll(cx) {
                    Poll::Ready(Ok(success)) => return Poll::Ready(Ok(success)),
                    Poll::Ready(Err(failure)) => {
                        failures.push(failure);
                        one_failed = true;
                        drop(running.remove(n));
                    }
                    Poll::Pending => n += 1,
                }
            }
            let due = std::mem::take(&mut first) || one_failed;
            if !due && timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match waiting.next() {
                Some(attempt) => {
                    running.push(Box::pin(attempt));
                    timer.as_mut().reset(Instant::now() + head_start);
                }
                None if running.is_empty() => {
                    return Poll::Ready(Err(std::mem::take(&mut failures)));
                }
                // Nobody is left to start; those under way wake this task.
                None => return Poll::Pending,
            }
        }
    })
    .await
}
