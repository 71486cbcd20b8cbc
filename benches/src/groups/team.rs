//! The members of a group: processes that hold some each, are told `start N` and `stop N`, and say what they read.
//!
//! On standard output, a line each: `ready`; `holds N COUNT` when the number of partitions that member N holds has changed;
//! `stopped N` when its consumer is closed; `read PARTITION OFFSET RECEIVED` for every record, with the nanoseconds of
//! the system's monotonic clock.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::timeline::{Delivery, Timeline};
use crate::runner::process::Process;

/// All members of one group.
pub(super) struct Team {
    processes: Vec<Option<Process>>,
    /// How many partitions each member has, of those that were started.
    holds: BTreeMap<usize, usize>,
    pub(super) timeline: Timeline,
}

/// Long enough for every scenario; only something stuck takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

impl Team {
    /// Starts the processes, each of which can hold any member.
    pub(super) fn start(
        program: &Path,
        args: &[OsString],
        processes: usize,
        partitions: usize,
    ) -> io::Result<Self> {
        let mut team = Self {
            processes: Vec::new(),
            holds: BTreeMap::new(),
            timeline: Timeline::new(partitions),
        };
        for _ in 0..processes {
            let mut process = Process::start("a group's members", program, args)?;
            match process.line(PATIENCE)?.as_str() {
                "ready" => team.processes.push(Some(process)),
                other => return Err(io::Error::other(format!("not ready but {other:?}"))),
            }
        }
        Ok(team)
    }

    pub(super) fn begin(&mut self, process: usize, member: usize) -> io::Result<()> {
        self.holds.insert(member, 0);
        self.process(process)?.say(&format!("start {member}"))
    }

    /// Closes a member's consumer and waits until it is closed.
    pub(super) fn end(&mut self, process: usize, member: usize) -> io::Result<()> {
        self.process(process)?.say(&format!("stop {member}"))?;
        self.wait("a member to close", |team| {
            !team.holds.contains_key(&member)
        })
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, process: usize, member: usize) {
        self.processes[process] = None;
        self.holds.remove(&member);
    }

    pub(super) fn wait_until_held(&mut self, member: usize) -> io::Result<()> {
        self.wait("a member to be given partitions", |team| {
            team.holds.get(&member).is_some_and(|held| *held > 0)
        })
    }

    /// Until every partition has flowed for a while, with everyone holding some and all of them held.
    pub(super) fn wait_until_settled(&mut self, partitions: usize) -> io::Result<()> {
        const CALM: u64 = 2_000_000_000;
        let started = monotonic();
        self.wait("the group to settle", |team| {
            let now = monotonic();
            // What was read a moment ago may be on its way here.
            let seen = now.saturating_sub(100_000_000);
            let from = seen.saturating_sub(CALM);
            team.holds.values().all(|held| *held > 0)
                && team.holds.values().sum::<usize>() == partitions
                && from > started
                && team.timeline.flows(from, seen)
        })
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen()?;
            if done(self) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!(
                    "waited {} s for {what}; partitions of members: {:?}",
                    PATIENCE.as_secs(),
                    self.holds
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        for process in self.processes.iter_mut().flatten() {
            while let Some(line) = process.line_if_any()? {
                heard(&line, &mut self.holds, &mut self.timeline)
                    .ok_or_else(|| io::Error::other(format!("a member said {line:?}")))?;
            }
        }
        Ok(())
    }

    fn process(&mut self, index: usize) -> io::Result<&mut Process> {
        let process = self.processes[index].as_mut();
        process.ok_or_else(|| io::Error::other("this process was killed"))
    }

    pub(super) fn finish(self) {
        for process in self.processes.into_iter().flatten() {
            process.finish();
        }
    }
}

fn heard(line: &str, holds: &mut BTreeMap<usize, usize>, timeline: &mut Timeline) -> Option<()> {
    let mut words = line.split(' ');
    match words.next()? {
        "read" => timeline.deliver(Delivery {
            partition: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            received: words.next()?.parse().ok()?,
        }),
        "holds" => {
            let member = words.next()?.parse().ok()?;
            let count = words.next()?.parse().ok()?;
            // A member that was stopped may still say what it gave up.
            if let Some(held) = holds.get_mut(&member) {
                *held = count;
            }
        }
        "stopped" => {
            holds.remove(&words.next()?.parse().ok()?);
        }
        _ => return None,
    }
    Some(())
}

/// Nanoseconds of the clock that all processes of this machine share.
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_refused() {
        let mut holds = BTreeMap::from([(3, 0)]);
        let mut timeline = Timeline::new(1);
        assert!(heard("holds 3 4", &mut holds, &mut timeline).is_some());
        assert!(heard("holds 9 4", &mut holds, &mut timeline).is_some());
        assert_eq!(holds, BTreeMap::from([(3, 4)]));
        assert!(heard("read 0 17 1000", &mut holds, &mut timeline).is_some());
        assert!(heard("stopped 3", &mut holds, &mut timeline).is_some());
        assert!(holds.is_empty());
        for strange in [
            "",
            "read 0",
            "read 0 x 1",
            "holds -1 2",
            "Exception in thread",
        ] {
            assert!(
                heard(strange, &mut holds, &mut timeline).is_none(),
                "{strange}"
            );
        }
    }
}
