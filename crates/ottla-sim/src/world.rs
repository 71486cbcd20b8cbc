//! One seed's world: a cluster, a network, a clock that only moves when everyone waits.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use fastrand::Rng;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_net::{Address, Cluster, ClusterConfig};

use crate::chaos::{self, Targets, Weather};
use crate::checker::{self, Truth, Written};
use crate::faults::{FaultCounts, FaultKind, Faults};
use crate::history::{self, Event, History, Part, What};
use crate::network::SimConnector;
use crate::tap::Seat;
use crate::violation::Violation;
use crate::{Scenario, consume, produce, share, transactions, writer};

/// Everything that one run consists of.
pub(crate) struct World {
    pub(crate) cluster: Arc<EmbeddedCluster>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) history: Arc<History>,
    /// Records that were read from logs before they were deleted.
    truth: Mutex<Truth>,
    clients: AtomicU32,
    /// `group.consumer.session.timeout.ms`
    pub(crate) consumer_session: Duration,
}

/// How a run went.
#[derive(Debug)]
pub struct Run {
    /// What was done, or what went wrong: a broken promise, a hang, or a panic of the client.
    pub outcome: Result<String, String>,
    /// How often each kind of fault happened.
    pub faults: FaultCounts,
    /// Of everything that happened, in order; the same whenever the seed is run.
    pub hash: u64,
    events: Vec<Event>,
    /// The event that broke a promise.
    broken_by: Option<usize>,
}

impl Run {
    /// What happened, an event a line, with its time in seconds.
    pub fn trace(&self) -> impl Iterator<Item = String> + '_ {
        self.events.iter().enumerate().map(|(index, event)| {
            let mark = if self.broken_by == Some(index) {
                " <=== this breaks a promise"
            } else {
                ""
            };
            format!("{event}{mark}")
        })
    }

    /// Where this run and another one of the same seed part, with what led there; `None` if they do not.
    #[must_use]
    pub fn parting(&self, other: &Self) -> Option<String> {
        if self.hash == other.hash {
            return None;
        }
        let (mut ours, mut theirs) = (self.trace(), other.trace());
        let mut shared = VecDeque::new();
        let (one, two) = loop {
            match (ours.next(), theirs.next()) {
                (Some(one), Some(two)) if one == two => {
                    if shared.len() == TOLD_BEFORE_PARTING {
                        shared.pop_front();
                    }
                    shared.push_back(one);
                }
                parted => break parted,
            }
        };
        let before: String = shared.iter().map(|line| format!("{line}\n")).collect();
        let end = || "the end".to_owned();
        let (one, two) = (one.unwrap_or_else(end), two.unwrap_or_else(end));
        Some(format!(
            "{before}then one run has\n{one}\nand the other\n{two}"
        ))
    }
}

/// So many events that two runs have in common are told before the one that they do not.
const TOLD_BEFORE_PARTING: usize = 8;

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(report) => write!(f, "{report}; faults: {}", Counted(&self.faults)),
            Err(problem) => f.write_str(problem),
        }
    }
}

/// Counts of faults, as people read them.
#[derive(Debug)]
pub struct Counted<'a>(pub &'a FaultCounts);

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, count)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{kind:?} {count}")?;
        }
        Ok(())
    }
}

/// Runs one seed of a scenario from beginning to end, and says how it went.
#[must_use]
pub fn run_seed(scenario: Scenario, seed: u64) -> Run {
    let faults = Arc::new(Faults::default());
    let mut run = Run {
        outcome: Ok(String::new()),
        faults: FaultCounts::new(),
        hash: 0,
        events: Vec::new(),
        broken_by: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            run.outcome = Err(format!("no runtime: {error}"));
            return run;
        }
    };
    fastrand::seed(seed);
    watch_for_panics();
    let panics = PANICS.get();
    let started = Instant::now();
    runtime.block_on(async {
        let world = match World::new(seed, Arc::clone(&faults)) {
            Ok(world) => world,
            Err(error) => {
                run.outcome = Err(error);
                return;
            }
        };
        let scene = async {
            match scenario {
                Scenario::Produce => produce::run(&world).await,
                Scenario::Group => consume::group(&world).await,
                Scenario::Assign => consume::assign(&world).await,
                Scenario::Share => share::run(&world).await,
                Scenario::Transactions => transactions::run(&world).await,
            }
        };
        // Virtual time: hours pass in milliseconds when everybody waits for nothing.
        run.outcome = match tokio::time::timeout(LONGEST, scene).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("hang: not finished after {LONGEST:?}")),
        };
        for (name, count) in world.cluster.faults_struck() {
            if let Some(kind) = kind_of(name) {
                faults.add(kind, count);
            }
        }
        run.events = world.history.events();
        // What a checker finds says more than what the scenario noticed because of it.
        if let Err((index, problem)) = world.check(&run.events) {
            run.broken_by = Some(index);
            run.outcome = Err(problem);
        }
    });
    run.hash = history::hash(&run.events);
    run.faults = faults.counts();
    if started.elapsed() > SLOWEST {
        run.outcome = Err(format!(
            "a busy loop, or close to it: the run took {:?}",
            started.elapsed()
        ));
    }
    let panics = PANICS.get() - panics;
    if panics > 0 {
        run.outcome = Err(format!("{panics} panics, printed above; {:?}", run.outcome));
    }
    run
}

/// The kind of a fault that the broker's script knows by this name.
fn kind_of(name: &str) -> Option<FaultKind> {
    Some(match name {
        "delay" => FaultKind::RequestDelayed,
        "drop" => FaultKind::RequestDropped,
        "disconnect" => FaultKind::RequestRefused,
        "lose reply" => FaultKind::ReplyLost,
        "tear reply" => FaultKind::ReplyTorn,
        "answer" => FaultKind::ErrorAnswered,
        _ => return None,
    })
}

/// A panic in a task of the client ends that task only; the run must hear of it.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            print(info);
        }));
    });
}

thread_local! {
    /// A run stays on its thread, and others may run beside it.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

impl World {
    fn new(seed: u64, faults: Arc<Faults>) -> Result<Arc<Self>, String> {
        let weather = Arc::new(Weather::new(seed, faults));
        let mut rng = weather.fork();
        let nodes = rng.u16(1..=3);
        let mut seconds =
            |choices: [f64; 3]| Duration::from_secs_f64(rng.choice(choices).unwrap_or(choices[0]));
        let consumer_session = seconds([6.0, 10.0, 45.0]);
        let options = BrokerOptions {
            nodes,
            auto_create_topics: false,
            consumer_session_timeout: consumer_session,
            consumer_heartbeat_interval: seconds([0.3, 1.0, 5.0]),
            // Records have the run's own time, which is long ago for brokers.
            retention_check_interval: Duration::from_secs(1 << 30),
            ..BrokerOptions::default()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).map_err(|e| e.to_string())?;
        Ok(Arc::new(Self {
            cluster: Arc::new(cluster),
            weather,
            history: Arc::new(History::new()),
            truth: Mutex::default(),
            clients: AtomicU32::new(0),
            consumer_session,
        }))
    }

    pub(crate) fn rng(&self) -> Rng {
        self.weather.fork()
    }

    /// A client of its own, over the faulty network.
    pub(crate) fn client(&self) -> Result<(Cluster, Arc<Seat>), String> {
        let seat = Seat::new(self.clients.fetch_add(1, Ordering::Relaxed) + 1);
        let nodes = self.cluster.node_ids();
        let config = ClusterConfig {
            request_timeout: Duration::from_secs(5),
            ..ClusterConfig::new(nodes.iter().map(|id| Address::new("memory", *id as u16)))
        };
        let connector = SimConnector::new(
            Arc::clone(&self.cluster),
            Arc::clone(&self.weather),
            Arc::clone(&self.history),
            Arc::clone(&seat),
        );
        let cluster = Cluster::new(config, Arc::new(connector)).map_err(|e| e.to_string())?;
        Ok((cluster, seat))
    }

    /// Lets the storm rage for a while; afterwards the weather is fair.
    pub(crate) async fn harm(&self, targets: &Targets, duration: Duration) {
        chaos::harm(self, targets, duration).await;
    }

    /// Makes a topic of as many partitions, and has the history know it.
    pub(crate) fn create_topic(&self, topic: u8, partitions: i32) -> Result<Vec<Part>, String> {
        let part = |partition| Part { topic, partition };
        let name = part(0).topic_name();
        let created = self.cluster.create_topic(&name, partitions);
        created.map_err(|error| error.to_string())?;
        if let Some(id) = self.cluster.topic_id(&name) {
            self.history.name_topic(id, topic);
        }
        Ok((0..partitions).map(part).collect())
    }

    /// First and next offset of a partition.
    pub(crate) fn bounds(&self, part: Part) -> (i64, i64) {
        let offsets = self.cluster.offsets(&part.topic_name(), part.partition);
        offsets.unwrap_or((0, 0))
    }

    /// Deletes some of the first records of a partition. Says where it begins now.
    pub(crate) fn delete_some_records(&self, part: Part, rng: &mut Rng) -> Option<i64> {
        let (start, end) = self.bounds(part);
        let offset = rng.i64(start..=end);
        // Once it is deleted, it cannot be read any more.
        self.learn(part);
        let topic = part.topic_name();
        let start = self
            .cluster
            .delete_records(&topic, part.partition, offset)
            .ok()?;
        self.history.record(What::LogStart {
            part,
            offset: start,
        });
        Some(start)
    }

    /// Reads what the log of a partition holds now.
    pub(crate) fn learn(&self, part: Part) {
        let records = self.cluster.records(&part.topic_name(), part.partition);
        let mut truth = self.truth();
        let log = truth.logs.entry(part).or_default();
        for (offset, value) in records.unwrap_or_default() {
            let value = value.unwrap_or_default();
            if let Some((id, timestamp)) = writer::read_value(&value) {
                log.insert(offset, Written { id, timestamp });
            }
        }
    }

    /// The event that broke a promise, and which.
    fn check(&self, events: &[Event]) -> Result<(), (usize, String)> {
        checker::check(events, &self.truth()).map_err(Violation::told)?;
        share::check(events, &self.truth()).map_err(Violation::told)?;
        transactions::check(events).map_err(Violation::told)
    }

    fn truth(&self) -> std::sync::MutexGuard<'_, Truth> {
        // A panic while it was held would have ended the run.
        self.truth
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(crate) fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// Virtual time after which a run hangs.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// Real time that a run may take, on a slow machine, before it must be spinning.
pub const SLOWEST: Duration = Duration::from_secs(600);
