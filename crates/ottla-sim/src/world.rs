//! One seed's world: a cluster, a network, a clock that only moves when everyone waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use fastrand::Rng;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_net::{Address, Cluster, ClusterConfig};

use crate::chaos::{self, Weather};
use crate::network::SimConnector;
use crate::{Scenario, produce};

/// Everything that one run consists of.
pub(crate) struct World {
    pub(crate) cluster: Arc<EmbeddedCluster>,
    weather: Arc<Weather>,
}

/// Runs one seed of a scenario from beginning to end, and says what happened.
///
/// # Errors
/// What went wrong: a broken promise, a hang, or a panic of the client.
pub fn run_seed(scenario: Scenario, seed: u64) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    fastrand::seed(seed);
    watch_for_panics();
    let panics = PANICS.load(Ordering::Relaxed);
    let started = Instant::now();
    let outcome = runtime.block_on(async {
        let world = World::new(seed)?;
        let run = async {
            match scenario {
                Scenario::Produce => produce::run(&world).await,
            }
        };
        // Virtual time: hours pass in milliseconds when everybody waits for nothing.
        match tokio::time::timeout(LONGEST, run).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("hang: not finished after {LONGEST:?}")),
        }
    });
    if started.elapsed() > SLOWEST {
        return Err(format!(
            "a busy loop, or close to it: the run took {:?}",
            started.elapsed()
        ));
    }
    match PANICS.load(Ordering::Relaxed) - panics {
        0 => outcome,
        count => Err(format!("{count} panics, printed above; {outcome:?}")),
    }
}

/// A panic in a task of the client ends that task only; the run must hear of it.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            print(info);
        }));
    });
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

impl World {
    fn new(seed: u64) -> Result<Self, String> {
        let weather = Arc::new(Weather::new(seed));
        let mut rng = weather.fork();
        let options = BrokerOptions {
            nodes: rng.u16(1..=3),
            auto_create_topics: false,
            ..BrokerOptions::default()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).map_err(|e| e.to_string())?;
        Ok(Self {
            cluster: Arc::new(cluster),
            weather,
        })
    }

    pub(crate) fn weather(&self) -> Arc<Weather> {
        Arc::clone(&self.weather)
    }

    pub(crate) fn rng(&self) -> Rng {
        self.weather.fork()
    }

    /// A client of its own, over the faulty network.
    pub(crate) fn client(&self) -> Result<Cluster, ottla_net::Error> {
        let nodes = self.cluster.node_ids();
        let config = ClusterConfig {
            request_timeout: Duration::from_secs(5),
            ..ClusterConfig::new(nodes.iter().map(|id| Address::new("memory", *id as u16)))
        };
        let connector = SimConnector::new(Arc::clone(&self.cluster), Arc::clone(&self.weather));
        Cluster::new(config, Arc::new(connector))
    }

    /// Lets the storm rage for a while; afterwards the weather is fair.
    pub(crate) async fn harm(
        &self,
        topics: &[(String, i32)],
        groups: &[String],
        duration: Duration,
    ) {
        chaos::harm(&self.cluster, &self.weather, topics, groups, duration).await;
    }
}

pub(crate) fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// Virtual time after which a run hangs.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// Real time that a run may take, on a slow machine, before it must be spinning.
const SLOWEST: Duration = Duration::from_secs(60);
