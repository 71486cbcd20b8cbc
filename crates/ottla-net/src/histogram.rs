//! A histogram of fixed memory that any thread may add to, for the figures of producers and consumers: three atomic
//! operations per value, no lock and no allocation. They count per batch and per request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where values are counted that a [`Histogram`] tells of. It counts them in buckets that are at most 1/16 wide, so that every figure read off is at most about
/// 6% too high.
pub struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Recorder {
    /// Counts `value`.
    pub fn add(&self, value: u64) {
        self.buckets[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    /// Counts a time, in microseconds.
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Histogram {
        let buckets: Box<[u64]> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        Histogram {
            // What the buckets hold, so that quantiles add up while others count.
            count: buckets.iter().sum(),
            buckets,
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// How often which values were seen, as of one moment. What is read off it is at most about 6% too high, and
/// never above [`max`](Self::max).
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// Values counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All values added up.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean value; 0 if there is none.
    pub fn mean(&self) -> f64 {
        match self.count {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    /// The value that a share of `quantile` (0 to 1) of all values does not exceed; 0 if there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = (quantile.clamp(0.0, 1.0) * self.count as f64)
            .ceil()
            .max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest_in(index).min(self.max);
            }
        }
        self.max
    }

    /// As [`quantile`](Self::quantile), of a histogram of times.
    pub fn time(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.quantile(quantile))
    }

    /// The buckets that hold something, in order: the highest value that counts in it, and how many do.
    /// For systems that take histograms.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self.buckets.iter().enumerate();
        filled
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (highest_in(index), *count))
    }

    /// What was counted since `earlier`, a snapshot of the same histogram. [`max`](Self::max) then is
    /// the top of the highest bucket.
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        let buckets: Box<[u64]> = pairs.map(|(now, then)| now.saturating_sub(*then)).collect();
        let highest = buckets.iter().rposition(|count| *count > 0);
        Histogram {
            count: buckets.iter().sum(),
            sum: self.sum.saturating_sub(earlier.sum),
            max: highest.map_or(0, |index| highest_in(index).min(self.max)),
            buckets,
        }
    }
}

/// Of no values.
impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into(),
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// Values below 16 have a bucket each; from there on each power of two has 16.
fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let power = value.ilog2();
    let step = (value >> (power - STEPS_LOG2)) & (STEPS - 1);
    let index = u64::from(power - STEPS_LOG2 + 1) * STEPS + step;
    (index as usize).min(BUCKETS - 1)
}

fn highest_in(index: usize) -> u64 {
    let (row, step) = (index as u64 / STEPS, index as u64 % STEPS);
    match row {
        0 => step,
        _ if index == BUCKETS - 1 => u64::MAX,
        row => ((STEPS + step + 1) << (row - 1)) - 1,
    }
}

const STEPS_LOG2: u32 = 4;
const STEPS: u64 = 1 << STEPS_LOG2;
/// Up to 2^40: twelve days in microseconds, a tebibyte.
const BUCKETS: usize = (40 - STEPS_LOG2 as usize + 1) * STEPS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_the_values_up_to_its_highest() {
        for index in 0..BUCKETS - 1 {
            let highest = highest_in(index);
            assert_eq!(bucket_of(highest), index);
            assert_eq!(bucket_of(highest + 1), index + 1, "{highest}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn figures_are_at_most_a_sixteenth_too_high() {
        let recorder = Recorder::default();
        for value in 1..=100_000 {
            recorder.add(value);
        }
        let histogram = recorder.snapshot();
        assert_eq!((histogram.count(), histogram.max()), (100_000, 100_000));
        assert!((histogram.mean() - 50_000.5).abs() < 1e-6);
        for (quantile, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let read = histogram.quantile(quantile) as f64;
            assert!(
                read >= exact && read <= exact * 17.0 / 16.0,
                "{quantile}: {read}"
            );
        }
        assert_eq!(histogram.quantile(1.0), 100_000);
        assert_eq!(
            histogram.buckets().map(|(_, count)| count).sum::<u64>(),
            100_000
        );
    }

    #[test]
    fn an_empty_one_says_nothing() {
        let histogram = Recorder::default().snapshot();
        assert_eq!(histogram, Histogram::default());
        assert_eq!((histogram.quantile(0.99), histogram.max()), (0, 0));
        assert_eq!(histogram.mean(), 0.0);
    }

    #[test]
    fn two_snapshots_give_what_lies_between() {
        let recorder = Recorder::default();
        recorder.add(1000);
        let earlier = recorder.snapshot();
        recorder.add(10);
        recorder.add(12);
        let between = recorder.snapshot().since(&earlier);
        assert_eq!((between.count(), between.sum(), between.max()), (2, 22, 12));
        let all = recorder.snapshot().since(&Histogram::default());
        assert_eq!((all.count(), all.sum()), (3, 1022));
    }
}
