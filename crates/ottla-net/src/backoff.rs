//! How long to wait before trying again: the one place in Ottla that decides it (KIP-580).

use std::time::Duration;

/// Exponential backoff with jitter.
///
/// The wait after the first failure is about `initial`, doubles with each further failure, and
/// stays about `max` from then on. Each wait is spread by [`Backoff::JITTER`] either way, so that
/// clients that failed together do not come back together; no wait is longer than `max`.
///
/// ```
/// use ottla_net::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// assert_eq!(backoff.delay(1, 0.5), Duration::from_millis(100));
/// assert_eq!(backoff.delay(3, 0.5), Duration::from_millis(400));
/// assert!(backoff.delay(30, 0.9) <= Duration::from_secs(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
}

impl Backoff {
    /// The part of a wait that chance may add or take away.
    pub const JITTER: f64 = 0.2;

    /// A policy. An `initial` above `max` counts as `max`.
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max }
    }

    /// The wait after `failures` failures in a row; none after no failure.
    ///
    /// `random` is the caller's random number in `0.0..1.0`: this type has no source of its own, so
    /// that a state machine that uses it can be replayed.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doublings = (failures - 1).min(DOUBLINGS_MAX);
        let base = self.initial.saturating_mul(1 << doublings).min(self.max);
        let spread = 1.0 + Self::JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        // `mul_f64` would panic on a wait too long to express.
        Duration::try_from_secs_f64(base.as_secs_f64() * spread)
            .map_or(self.max, |delay| delay.min(self.max))
    }

    /// [`Backoff::delay`] with a number from the thread's random source.
    pub fn random_delay(&self, failures: u32) -> Duration {
        self.delay(failures, fastrand::f64())
    }
}

/// Enough to pass any sensible `max`, few enough not to overflow the factor.
const DOUBLINGS_MAX: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

    #[test]
    fn doubles_until_the_maximum() {
        let waits: Vec<_> = (0..8).map(|n| POLICY.delay(n, 0.5).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn jitter_stays_within_its_part_and_below_the_maximum() {
        for failures in 1..100 {
            let middle = POLICY.delay(failures, 0.5);
            let low = POLICY.delay(failures, 0.0);
            let high = POLICY.delay(failures, 1.0);
            assert_eq!(low.as_millis(), middle.mul_f64(0.8).as_millis());
            let bound = middle.mul_f64(1.2).min(Duration::from_secs(1));
            assert_eq!(high.as_millis(), bound.as_millis());
        }
        for _ in 0..1000 {
            let wait = POLICY.random_delay(2).as_millis();
            assert!((160..=240).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let huge = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(huge.delay(u32::MAX, 0.0) > Duration::from_secs(1 << 40));
        assert_eq!(huge.delay(u32::MAX, 1.0), Duration::MAX);
        let none = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(none.delay(u32::MAX, 1.0), Duration::ZERO);
        let reversed = Backoff::new(Duration::from_secs(9), Duration::from_secs(1));
        assert_eq!(reversed.delay(1, 0.5), Duration::from_secs(1));
    }
}
