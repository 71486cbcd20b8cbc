//! The time that records are stamped with when their sender names none.
//!
//! Owns each thread's last reading. Never read for anything else: linger and deadlines have a clock of their own.
//!
//! Reading the clock takes 20 to 35 ns, about what it takes to encode a small record. The kernel's coarse clock takes a few,
//! and moves by a tick, mostly 4 ms, at a time. So a thread that sends many records within one tick reads the exact clock for the
//! first of them, as somebody who sends few does for each, and then for every sixteenth only. A record is therefore stamped
//! with its own time or with that of one of the fifteen before it in the same tick.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn now_ms() -> i64 {
    ticking::LAST.with(|last| {
        let mut reading = last.get();
        let now = reading.now(ticking::tick(), exact_ms);
        last.set(reading);
        now
    })
}

/// Milliseconds since 1970.
#[cfg(not(target_os = "linux"))]
pub(crate) fn now_ms() -> i64 {
    exact_ms()
}

#[cold]
fn exact_ms() -> i64 {
    // A clock before 1970 counts as 1970; one after the year 292,000,000 cannot be told.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as i64
}

#[cfg(target_os = "linux")]
mod ticking {
    use std::cell::Cell;

    use rustix::time::{ClockId, clock_gettime};

    thread_local! {
        pub(super) static LAST: Cell<Reading> = const { Cell::new(Reading { tick: 0, exact_ms: 0, records: 0 }) };
    }

    /// The coarse clock: the same value until the kernel's next tick.
    #[inline]
    pub(super) fn tick() -> i64 {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        // Only compared: overflow would do no harm.
        time.tv_sec
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec)
    }

    #[derive(Debug, Clone, Copy)]
    pub(super) struct Reading {
        pub(super) tick: i64,
        pub(super) exact_ms: i64,
        /// Stamped in this tick, counting around.
        pub(super) records: u32,
    }

    impl Reading {
        #[inline]
        pub(super) fn now(&mut self, tick: i64, exact_ms: impl FnOnce() -> i64) -> i64 {
            if tick != self.tick {
                self.tick = tick;
                self.records = 0;
            }
            if self.records < ALL_EXACT || self.records.is_multiple_of(ONE_EXACT_IN) {
                self.exact_ms = exact_ms();
            }
            // Never back to where all are exact.
            self.records = if self.records == u32::MAX {
                ALL_EXACT
            } else {
                self.records + 1
            };
            self.exact_ms
        }
    }

    /// So many records of a tick are stamped by the exact clock, each.
    pub(super) const ALL_EXACT: u32 = 32;

    /// Of those that follow, one in so many is.
    pub(super) const ONE_EXACT_IN: u32 = 16;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::ticking::{ALL_EXACT, ONE_EXACT_IN, Reading};
    use super::*;

    fn reading() -> Reading {
        Reading {
            tick: 0,
            exact_ms: 0,
            records: 0,
        }
    }

    #[test]
    fn who_sends_few_records_gets_the_exact_time_for_each() {
        let mut reading = reading();
        for now in 1..1_000 {
            // A tick of 4 ms, a record each millisecond.
            assert_eq!(reading.now(now / 4, || now), now);
        }
    }

    #[test]
    fn who_sends_many_gets_it_for_one_in_sixteen_and_at_every_tick() {
        let (mut reading, mut reads) = (reading(), 0);
        for record in 0..1_000 {
            let stamped = reading.now(1, || {
                reads += 1;
                record
            });
            assert!(record - stamped < i64::from(ONE_EXACT_IN), "{record}");
        }
        assert!(reads <= ALL_EXACT + 1_000 / ONE_EXACT_IN, "{reads}");
        assert_eq!(reading.now(2, || -5), -5, "set back with the clock");
        reading.records = u32::MAX;
        reading.now(2, || -4);
        assert_eq!(reading.records, ALL_EXACT);
    }

    #[test]
    fn the_time_is_the_systems() {
        for _ in 0..10_000 {
            let before = exact_ms();
            let now = now_ms();
            assert!(
                (before - 100..=exact_ms()).contains(&now),
                "{now} at {before}"
            );
        }
    }
}
