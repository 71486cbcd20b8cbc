//! The scenarios: who is told what when, and how long partitions stood still meanwhile.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use ottla_net::{Cluster, ClusterConfig, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use tokio::runtime::Builder;

use super::team::{Team, monotonic};
use super::timeline::Stood;
use super::{HEARTBEAT, Scenario, Settings};
use crate::runner::Live;
use crate::workload::PARTITIONS;

/// One run of a scenario.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// From the first order to the group at rest again; the rest it is recognised by is not counted.
    took: Duration,
    stood: Stood,
}

/// Races Ottla's members against Java's, and prints a table.
///
/// # Errors
/// When the broker cannot be reached or a group does not settle within a minute and a half.
pub fn run(settings: &Settings) -> io::Result<()> {
    let entrants = entrants(settings)?;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "scenario",
        "protocol",
        "members",
        "longest halt, s",
        "all halts, s",
        "took, s",
        "handed out again",
    ]);
    for scenario in &settings.scenarios {
        for protocol in &settings.protocols {
            let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); entrants.len()];
            for round in 0..settings.rounds {
                for turn in 0..entrants.len() {
                    let index = (turn + round) % entrants.len();
                    let (name, program) = &entrants[index];
                    let group = format!(
                        "ottla-bench-{name}-{scenario:?}-{protocol}-{round}-{}",
                        std::process::id()
                    );
                    // Members that came together send heartbeats together, and what a halt takes depends on how long
                    // ago that was. Every entrant is met at the same moments between two of them.
                    let phase = HEARTBEAT * round as u32 / settings.rounds as u32;
                    let measured = measure(settings, program, protocol, &group, (*scenario, phase))
                        .map_err(|error| io::Error::other(format!("{group}: {error}")))?;
                    eprintln!("{group}: {measured:?}");
                    runs[index].push(measured);
                }
            }
            for ((name, _), runs) in entrants.iter().zip(&runs) {
                let scenario = format!("{scenario:?}").to_lowercase();
                table.add_row([
                    scenario,
                    protocol.clone(),
                    (*name).to_owned(),
                    median(runs, |run| run.stood.longest.as_secs_f64()),
                    median(runs, |run| run.stood.total.as_secs_f64()),
                    median(runs, |run| run.took.as_secs_f64()),
                    median(runs, |run| run.stood.again as f64),
                ]);
            }
        }
    }
    println!("{table}");
    Ok(())
}

fn entrants(settings: &Settings) -> io::Result<Vec<(&'static str, PathBuf)>> {
    let own = std::env::current_exe()?.with_file_name("bench-group-member");
    let java = settings.peers.join("members/java");
    let mut found = vec![("ottla", own)];
    if java.is_file() {
        found.push(("java", java));
    } else {
        eprintln!(
            "no Java: {} is missing. Run benches/peers/build, or pass --peers.",
            java.display()
        );
    }
    Ok(found)
}

fn median(runs: &[Measured], of: impl Fn(&Measured) -> f64) -> String {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len() / 2)
        .map_or(String::new(), |value| format!("{value:.2}"))
}

/// On a topic of its own, which is called like the group.
fn measure(
    settings: &Settings,
    program: &Path,
    protocol: &str,
    group: &str,
    (scenario, phase): (Scenario, Duration),
) -> io::Result<Measured> {
    let live = Live::create(&settings.live, group.into())?;
    let load = Load::start(&live)?;
    let args = [
        format!("--bootstrap={}", live.bootstrap),
        format!("--topic={group}"),
        format!("--group={group}"),
        format!("--protocol={protocol}"),
    ]
    .map(OsString::from);
    let (processes, members) = match scenario {
        Scenario::Kill | Scenario::Leave => (3, 3),
        Scenario::Rolling => (1, 10),
    };
    let mut team = Team::start(program, &args, processes, PARTITIONS)?;
    for member in 0..members {
        team.begin(member % processes, member)?;
    }
    team.wait_until_settled(PARTITIONS)?;
    thread::sleep(phase);
    let (from, started) = (monotonic(), Instant::now());
    match scenario {
        Scenario::Kill => team.kill(0, 0),
        Scenario::Leave => team.end(0, 0)?,
        Scenario::Rolling => {
            for member in 0..members {
                team.end(0, member)?;
                team.begin(0, member)?;
                team.wait_until_held(member)?;
            }
        }
    }
    let rolled = started.elapsed();
    team.wait_until_settled(PARTITIONS)?;
    let stood = team.timeline.stood(from, monotonic() - 100_000_000);
    team.finish();
    load.stop()?;
    live.delete_topic()?;
    Ok(Measured {
        took: match scenario {
            Scenario::Kill => stood.longest,
            Scenario::Leave | Scenario::Rolling => rolled,
        },
        stood,
    })
}

/// A record to every partition each 10 ms.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Load {
    fn start(live: &Live) -> io::Result<Self> {
        let address = live.bootstrap.parse().map_err(io::Error::other)?;
        let topic = live.topic.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let config = ClusterConfig::new([address]);
                let cluster = Cluster::new(config, Arc::new(TcpConnector::default()))
                    .map_err(io::Error::other)?;
                let producer = Producer::new(cluster.clone(), ProducerConfig::default())
                    .map_err(io::Error::other)?;
                let mut tick = tokio::time::interval(Duration::from_millis(10));
                while !stopped.load(Ordering::Relaxed) {
                    tick.tick().await;
                    for partition in 0..PARTITIONS as i32 {
                        let record = ProducerRecord::to(&topic)
                            .value(b"tick")
                            .partition(partition);
                        drop(producer.send(record).await.map_err(io::Error::other)?);
                    }
                }
                producer
                    .close(Duration::from_secs(10))
                    .await
                    .map_err(io::Error::other)?;
                cluster.close().await;
                Ok(())
            })
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| io::Error::other("the load panicked"))?
    }
}
