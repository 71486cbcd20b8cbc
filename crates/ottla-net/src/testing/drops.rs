//! Futures that are dropped on their way, for tests of what that costs.

use std::{future::poll_fn, pin::pin, task::Poll};

/// Polls `future` until it is ready, or was pending `polls` times and is so once more; then drops it. With 0 that is the
/// first time.
pub async fn drop_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut pending = 0;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if pending == polls => Poll::Ready(None),
        Poll::Pending => {
            pending += 1;
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_is_dropped_when_it_was_pending_often_enough() {
        let twice = || async {
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(drop_after(twice(), 0).await, None);
        assert_eq!(drop_after(twice(), 1).await, None);
        assert_eq!(drop_after(twice(), 2).await, Some(()));
        assert_eq!(drop_after(async { 7 }, 0).await, Some(7));
    }
}
