//! When the records of each partition arrived, whoever of the group read them, and how long each stood still.

use std::time::Duration;

/// A partition that brought nothing for longer has stood still; records come every 10 ms.
const STILL: Duration = Duration::from_millis(250);

/// A record that a member was handed. Times are nanoseconds of the system's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) partition: usize,
    pub(super) offset: i64,
    pub(super) received: u64,
}

/// What a group was like between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stood {
    /// The longest time that a partition brought nothing.
    pub(super) longest: Duration,
    /// All times above a quarter of a second that partitions brought nothing, added up.
    pub(super) total: Duration,
    /// Records that were handed out again.
    pub(super) again: u64,
}

#[derive(Debug)]
pub(super) struct Timeline {
    partitions: Vec<Partition>,
}

#[derive(Debug, Clone, Default)]
struct Partition {
    next: i64,
    /// When each record came that had not come before.
    first: Vec<u64>,
    /// When records came that had.
    again: Vec<u64>,
}

impl Timeline {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            partitions: vec![Partition::default(); partitions],
        }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Some(partition) = self.partitions.get_mut(delivery.partition) else {
            return;
        };
        if delivery.offset < partition.next {
            partition.again.push(delivery.received);
            return;
        }
        partition.next = delivery.offset + 1;
        // Lines of two members may cross on their way here.
        let at = partition
            .first
            .partition_point(|at| *at <= delivery.received);
        partition.first.insert(at, delivery.received);
    }

    /// Whether every partition has brought something since `from`, without a halt up to `now`.
    pub(super) fn flows(&self, from: u64, now: u64) -> bool {
        self.partitions.iter().all(|partition| {
            let (longest, _) = partition.halts(from, now);
            longest <= STILL.as_nanos() as u64
        })
    }

    pub(super) fn stood(&self, from: u64, to: u64) -> Stood {
        let halts = self
            .partitions
            .iter()
            .map(|partition| partition.halts(from, to));
        let (longest, total) = halts.fold((0, 0), |(longest, total), halts| {
            (longest.max(halts.0), total + halts.1)
        });
        let again = self.partitions.iter().map(|partition| {
            let within = |at: &&u64| (from..=to).contains(*at);
            partition.again.iter().filter(within).count() as u64
        });
        Stood {
            longest: Duration::from_nanos(longest),
            total: Duration::from_nanos(total),
            again: again.sum(),
        }
    }
}

impl Partition {
    /// The longest halt, and the sum of those above [`STILL`].
    fn halts(&self, from: u64, to: u64) -> (u64, u64) {
        let start = self.first.partition_point(|at| *at < from);
        let end = self.first.partition_point(|at| *at <= to);
        let mut last = from;
        let (mut longest, mut total) = (0, 0);
        for at in self.first[start..end].iter().copied().chain([to]) {
            let halt = at - last;
            longest = longest.max(halt);
            if halt > STILL.as_nanos() as u64 {
                total += halt;
            }
            last = at;
        }
        (longest, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(partition: usize, offset: i64, ms: u64) -> Delivery {
        Delivery {
            partition,
            offset,
            received: ms * MS,
        }
    }

    #[test]
    fn halts_are_measured_from_the_start_and_to_the_end() {
        let mut timeline = Timeline::new(2);
        for (offset, ms) in [(0, 100), (1, 200), (2, 900), (3, 1_000)] {
            timeline.deliver(at(0, offset, ms));
        }
        for offset in 0..10 {
            timeline.deliver(at(1, offset, 100 * (offset as u64 + 1)));
        }
        let stood = timeline.stood(0, 1_400 * MS);
        assert_eq!(stood.longest, Duration::from_millis(700));
        // 700 ms and twice 400 ms at the end.
        assert_eq!(stood.total, Duration::from_millis(1_500));
        assert_eq!(stood.again, 0);
        assert!(!timeline.flows(0, 1_000 * MS));
        assert!(timeline.flows(800 * MS, 1_100 * MS));
    }

    #[test]
    fn what_comes_again_does_not_end_a_halt() {
        let mut timeline = Timeline::new(1);
        timeline.deliver(at(0, 4, 100));
        timeline.deliver(at(0, 3, 600));
        timeline.deliver(at(0, 4, 700));
        timeline.deliver(at(0, 5, 1_100));
        let stood = timeline.stood(0, 1_200 * MS);
        assert_eq!(stood.longest, Duration::from_millis(1_000));
        assert_eq!(stood.again, 2);
    }

    #[test]
    fn lines_that_cross_are_put_in_order() {
        let mut timeline = Timeline::new(1);
        timeline.deliver(at(0, 0, 100));
        timeline.deliver(at(0, 9, 300));
        timeline.deliver(at(0, 10, 200));
        assert_eq!(
            timeline.stood(100 * MS, 300 * MS).longest,
            Duration::from_millis(100)
        );
    }
}
