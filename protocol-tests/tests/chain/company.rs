//! The members of one group, and who of them comes and goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, sync::Notify};

use crate::{client::PATIENCE, copier::Job};

const MEMBERS_MAX: usize = 4;

pub(crate) struct Company {
    told: Arc<Told>,
    thread: JoinHandle<String>,
}

#[derive(Default)]
struct Told {
    calm: AtomicBool,
    end: AtomicBool,
}

impl Company {
    /// Two members begin; from then on they come and go at random.
    pub(crate) fn start(job: Job) -> Self {
        let told = Arc::<Told>::default();
        let heard = told.clone();
        let thread = std::thread::spawn(move || heard.come_and_go(&Arc::new(job)));
        Self { told, thread }
    }

    /// From now on nobody comes or goes.
    pub(crate) fn calm(&self) {
        self.told.calm.store(true, Ordering::Relaxed);
    }

    /// All leave; returns what happened.
    pub(crate) fn end(self) -> String {
        self.told.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Told {
    fn come_and_go(&self, job: &Arc<Job>) -> String {
        let (mut joined, mut left, mut died) = (2, 0, 0);
        let mut members: Vec<_> = (0..joined).map(|_| Member::join(job)).collect();
        while self.wait(Duration::from_millis(fastrand::u64(800..2_500))) {
            let one = fastrand::usize(..members.len());
            match fastrand::u8(..4) {
                0 if members.len() > 1 => {
                    members.swap_remove(one).leave();
                    left += 1;
                }
                1 if members.len() > 1 => {
                    members.swap_remove(one).die();
                    died += 1;
                }
                _ if members.len() < MEMBERS_MAX => {
                    members.push(Member::join(job));
                    joined += 1;
                }
                _ => {}
            }
        }
        while !self.end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        for member in members {
            member.leave();
        }
        format!(
            "{}, where {joined} came, {left} left and {died} died meanwhile ({})",
            job.name(),
            job.notes()
        )
    }

    /// Whether it is time, and not calm yet.
    fn wait(&self, time: Duration) -> bool {
        let due = Instant::now() + time;
        while Instant::now() < due {
            let over = self.calm.load(Ordering::Relaxed) || self.end.load(Ordering::Relaxed);
            if over {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

/// A member on a runtime of its own, so that it can die: with that its tasks and sockets end, and it says nothing.
struct Member {
    runtime: Runtime,
    leave: Arc<Notify>,
    work: tokio::task::JoinHandle<()>,
}

impl Member {
    fn join(job: &Arc<Job>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let leave = Arc::<Notify>::default();
        let work = runtime.spawn(job.clone().work(leave.clone()));
        Self {
            runtime,
            leave,
            work,
        }
    }

    fn leave(self) {
        self.leave.notify_one();
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.work).await })
            .expect("a member leaves in time")
            .unwrap();
        self.runtime.shutdown_background();
    }

    fn die(self) {
        assert!(!self.work.is_finished(), "it ended before: see above");
        self.runtime.shutdown_background();
    }
}
