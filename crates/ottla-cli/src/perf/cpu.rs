//! The processor time this process has used.

use std::time::Duration;

/// User and system time of all threads so far; `None` where the system does not tell.
pub(crate) fn used() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).ok()?;
        let nanos = u32::try_from(time.tv_nsec).ok()?;
        Some(Duration::new(seconds, nanos))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn work_counts() {
        let before = super::used().unwrap();
        let mut sum = 0_u64;
        while super::used().unwrap() - before < std::time::Duration::from_millis(1) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(super::used().unwrap() > before);
    }
}
