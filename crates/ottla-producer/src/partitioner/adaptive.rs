//! Which partition keyless records move on to: any that can be sent to, the less busy ones more often
//! (KIP-794).
//!
//! Looks at a bounded number of partitions, however many a topic has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Whether a broker takes what there is for it, as its sender sees it.
#[derive(Debug)]
pub(crate) struct BrokerHealth {
    epoch: Instant,
    /// Milliseconds from `epoch` to the moment since when something waits and nothing moves, plus one; 0 if
    /// nothing waits.
    stuck_since: AtomicU64,
}

impl BrokerHealth {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            stuck_since: AtomicU64::new(0),
        })
    }

    /// The broker answered, or nothing waits for it.
    pub(crate) fn moves(&self) {
        if self.stuck_since.load(Ordering::Relaxed) != 0 {
            self.stuck_since.store(0, Ordering::Relaxed);
        }
    }

    /// Something waits for the broker.
    pub(crate) fn waits(&self, now: Instant) {
        if self.stuck_since.load(Ordering::Relaxed) == 0 {
            let ms = now.saturating_duration_since(self.epoch).as_millis() as u64;
            self.stuck_since.store(ms + 1, Ordering::Relaxed);
        }
    }

    /// Whether something has waited for longer than `timeout` in which nothing moved.
    pub(crate) fn is_stuck(&self, now: Instant, timeout: Duration) -> bool {
        match self.stuck_since.load(Ordering::Relaxed) {
            0 => false,
            since => now > self.epoch + Duration::from_millis(since - 1) + timeout,
        }
    }
}

/// Chooses among `count` candidates by their loads, a `random` number in `0.0..1.0` deciding. `load` gives
/// none for a candidate to be passed over; if all are, any is chosen. `start` says where to begin to look.
pub(crate) fn choose(
    count: usize,
    start: usize,
    random: f64,
    load: impl Fn(usize) -> Option<u32>,
) -> usize {
    let looks = count.min(LOOKS);
    let mut loads = [None; LOOKS];
    for (look, slot) in loads.iter_mut().enumerate().take(looks) {
        *slot = load((start + look) % count);
    }
    let loads = &loads[..looks];
    let Some(busiest) = loads.iter().flatten().max().copied() else {
        return (start + (random * looks as f64) as usize) % count;
    };
    let weight = |load: &Option<u32>| load.map_or(0, |load| u64::from(busiest - load) + 1);
    let total: u64 = loads.iter().map(weight).sum();
    let mut left = (random * total as f64) as u64;
    for (look, load) in loads.iter().enumerate() {
        let weight = weight(load);
        if left < weight {
            return (start + look) % count;
        }
        left -= weight;
    }
    start % count
}

/// Enough to tell the busy from the idle; a look costs a read of another thread's memory.
const LOOKS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(loads: &[Option<u32>]) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut shares = vec![0; loads.len()];
        for _ in 0..100_000 {
            let start = rng.usize(..loads.len());
            shares[choose(loads.len(), start, rng.f64(), |index| loads[index])] += 1;
        }
        shares
    }

    #[test]
    fn equal_loads_get_equal_shares() {
        for share in shares(&[Some(3); 5]) {
            assert!((19_000..21_000).contains(&share), "{share}");
        }
    }

    #[test]
    fn shares_are_as_kip_794_computes_them() {
        // Queue sizes 0, 3, 1 weigh 4, 1, 3.
        let shares = shares(&[Some(0), Some(3), Some(1)]);
        for (share, eighths) in shares.into_iter().zip([4, 1, 3]) {
            let expected = eighths * 100_000 / 8;
            assert!(share.abs_diff(expected) < 1500, "{share} of {expected}");
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_passed_over_unless_there_is_nothing_else() {
        let some = shares(&[None, Some(7), None]);
        assert_eq!(some, [0, 100_000, 0]);
        assert!(
            shares(&[None, None])
                .into_iter()
                .all(|share| share > 45_000)
        );
    }

    #[test]
    fn of_many_every_one_has_its_turn() {
        let least = shares(&[Some(1); 1000]).into_iter().min();
        assert!(least > Some(40), "{least:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_is_stuck_when_it_took_nothing_for_the_whole_time() {
        let health = BrokerHealth::new();
        let (start, timeout) = (Instant::now(), Duration::from_millis(100));
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!health.is_stuck(at(10_000), timeout), "nothing waits");
        health.waits(at(50));
        health.waits(at(140));
        assert!(!health.is_stuck(at(150), timeout));
        assert!(health.is_stuck(at(151), timeout));
        health.moves();
        assert!(!health.is_stuck(at(500), timeout));
    }
}
