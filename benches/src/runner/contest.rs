//! The race itself: one cell, every contestant, every round.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::broker::{Counts, SinkProcess};
use super::live::Live;
use super::process::Process;
use super::settings::{Cell, Settings};
use crate::contestant::Mode;
use crate::workload;

/// Where each contestant stands in the tables. Others follow in the order they are found.
const ORDER: [&str; 8] = [
    "floor",
    "ottla",
    "librdkafka",
    "franz-go",
    "franz-go-pooled",
    "java",
    "krafka",
    "rskafka",
];

/// A contestant's name and program.
#[derive(Debug, Clone)]
pub(super) struct Entrant {
    pub(super) name: String,
    program: PathBuf,
}

/// What one contestant did in one cell, round by round.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) runs: Vec<Run>,
    pub(super) failure: Option<String>,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    /// Requests, batch bytes and CPU seconds of the sink; none against a live broker.
    sink: Option<(u64, u64, f64)>,
}

/// A cell and everyone's runs in it.
#[derive(Debug)]
pub(super) struct Raced {
    pub(super) cell: Cell,
    pub(super) lanes: Vec<Lane>,
}

/// Our own programs beside this one, and everything executable in the peers' folder.
pub(super) fn entrants(settings: &Settings) -> io::Result<Vec<Entrant>> {
    let mut found: Vec<Entrant> = Vec::new();
    let own = programs()?;
    for name in ["floor", "ottla"] {
        let program = own.join(format!("bench-{name}"));
        if program.is_file() {
            found.push(Entrant {
                name: name.into(),
                program,
            });
        }
    }
    match fs::read_dir(&settings.peers) {
        Ok(entries) => {
            for entry in entries {
                let program = entry?.path();
                if !program.is_file() {
                    continue;
                }
                if let Some(name) = program.file_name().and_then(|name| name.to_str()) {
                    found.push(Entrant {
                        name: name.into(),
                        program: program.clone(),
                    });
                }
            }
        }
        Err(error) => eprintln!(
            "no peers: {}: {error}. Run benches/peers/build, or pass --peers.",
            settings.peers.display()
        ),
    }
    let place = |name: &str| {
        ORDER
            .iter()
            .position(|known| *known == name)
            .unwrap_or(ORDER.len())
    };
    found.sort_by(|a, b| (place(&a.name), &a.name).cmp(&(place(&b.name), &b.name)));
    for wanted in &settings.contestants {
        if !found.iter().any(|entrant| entrant.name == *wanted) {
            eprintln!("contestant {wanted} is not built; the race goes on without it");
        }
    }
    if !settings.contestants.is_empty() {
        found.retain(|entrant| settings.contestants.contains(&entrant.name));
    }
    if found.is_empty() {
        return Err(io::Error::other(
            "nobody to race: no contestant's program was found",
        ));
    }
    Ok(found)
}

/// Runs one cell.
pub(super) fn race(settings: &Settings, cell: &Cell, entrants: &[Entrant]) -> io::Result<Raced> {
    let pool = pool_file(cell.size)?;
    let mut ground = Ground::prepare(settings, cell, &pool)?;
    let mut lanes: Vec<Lane> = entrants
        .iter()
        .map(|entrant| Lane {
            name: entrant.name.clone(),
            runs: Vec::new(),
            failure: None,
        })
        .collect();
    for round in 0..settings.rounds {
        // Whoever runs first meets the quietest machine as often as anyone else.
        for turn in 0..entrants.len() {
            let index = (turn + round) % entrants.len();
            let (entrant, lane) = (&entrants[index], &mut lanes[index]);
            if lane.failure.is_some() {
                continue;
            }
            match run(settings, cell, entrant, &pool, &mut ground) {
                Ok(run) => {
                    note(settings, cell, entrant, round, &run)?;
                    lane.runs.push(run);
                }
                Err(error) => {
                    eprintln!("{} in {cell}: {error}", entrant.name);
                    lane.failure = Some(error.to_string());
                }
            }
        }
    }
    ground.clear()?;
    Ok(Raced {
        cell: cell.clone(),
        lanes,
    })
}

/// What a cell runs on.
enum Ground {
    Sink(SinkProcess),
    Live(Live),
}

impl Ground {
    fn prepare(settings: &Settings, cell: &Cell, pool: &Path) -> io::Result<Self> {
        Ok(match &settings.live {
            None => Self::Sink(SinkProcess::start(&programs()?, cell, pool)?),
            Some(bootstrap) => {
                let live = Live::for_cell(bootstrap, cell)?;
                if cell.mode == Mode::Consume {
                    preload(&live, cell, pool, live_records(settings, cell))?;
                }
                Self::Live(live)
            }
        })
    }

    fn bootstrap(&self) -> &str {
        match self {
            Self::Sink(sink) => &sink.bootstrap,
            Self::Live(live) => &live.bootstrap,
        }
    }

    fn topic(&self) -> &str {
        match self {
            Self::Sink(_) => "clicks",
            Self::Live(live) => &live.topic,
        }
    }

    fn counts(&mut self) -> io::Result<Option<Counts>> {
        match self {
            Self::Sink(sink) => sink.counts().map(Some),
            Self::Live(_) => Ok(None),
        }
    }

    fn clear(self) -> io::Result<()> {
        match self {
            Self::Sink(_) => Ok(()),
            Self::Live(live) => live.delete_topic(),
        }
    }
}

fn run(
    settings: &Settings,
    cell: &Cell,
    entrant: &Entrant,
    pool: &Path,
    ground: &mut Ground,
) -> io::Result<Run> {
    let mut args = base_args(cell, ground.bootstrap(), ground.topic(), pool);
    let warmup_seconds = settings.warmup_seconds * warmup_factor(&entrant.name);
    args.extend([
        format!("--warmup-seconds={warmup_seconds}"),
        format!("--seconds={}", settings.seconds),
    ]);
    if let Some(bytes) = settings.batch_bytes {
        args.push(format!("--batch-bytes={bytes}"));
    }
    if settings.live.is_some() && cell.mode == Mode::Consume {
        // The log has an end: a tenth of it warms up, and nobody waits at its very end.
        let records = live_records(settings, cell);
        args.push(format!("--warmup-records={}", records / 10));
        args.push(format!("--records={}", records * 8 / 10));
    }
    let mut process = Process::start(&entrant.name, &entrant.program, &args)?;
    let patience = Duration::from_secs_f64(warmup_seconds + settings.seconds + 30.0);
    let ready = process.line(patience)?;
    if ready != "ready" {
        return Err(io::Error::other(format!(
            "{} said {ready:?}, not ready",
            entrant.name
        )));
    }
    let counts = ground.counts()?;
    let cpu_before = process.cpu_seconds()?;
    process.say("go")?;
    let line = process.line(patience)?;
    let cpu_seconds = process.cpu_seconds()? - cpu_before;
    let sink = match (counts, ground.counts()?) {
        (Some(before), Some(after)) => Some((before, after)),
        _ => None,
    };
    process.finish();

    let report: serde_json::Value = serde_json::from_str(&line)?;
    let records = report["records"].as_u64().unwrap_or(0);
    if records == 0 {
        return Err(io::Error::other(format!(
            "{} moved no record: {line}",
            entrant.name
        )));
    }
    if let Some((before, after)) = sink
        && cell.mode == Mode::Produce
        && after.records - before.records != records
    {
        return Err(io::Error::other(format!(
            "{} reports {records} records, the sink received {}",
            entrant.name,
            after.records - before.records
        )));
    }
    Ok(Run {
        records,
        seconds: report["seconds"].as_f64().unwrap_or(f64::NAN),
        cpu_seconds,
        p50_us: report["p50_us"].as_u64(),
        p99_us: report["p99_us"].as_u64(),
        sink: sink.map(|(before, after)| {
            (
                after.requests - before.requests,
                after.bytes - before.bytes,
                after.cpu_seconds - before.cpu_seconds,
            )
        }),
    })
}

/// How many times longer a contestant warms up than the others: a JVM has compiled nothing when it starts.
fn warmup_factor(name: &str) -> f64 {
    if name == "java" { 4.0 } else { 1.0 }
}

/// Fills the live topic through the floor.
fn preload(live: &Live, cell: &Cell, pool: &Path, records: u64) -> io::Result<()> {
    let cell = Cell {
        mode: Mode::Produce,
        ..cell.clone()
    };
    let mut args = base_args(&cell, &live.bootstrap, &live.topic, pool);
    args.extend(["--warmup-seconds=0".into(), "--seconds=300".into()]);
    args.push(format!("--records={records}"));
    let mut process = Process::start("preload", programs()?.join("bench-floor"), &args)?;
    process.line(Duration::from_secs(30))?;
    process.say("go")?;
    process.line(Duration::from_secs(300))?;
    process.finish();
    Ok(())
}

fn base_args(cell: &Cell, bootstrap: &str, topic: &str, pool: &Path) -> Vec<String> {
    vec![
        format!("--bootstrap={bootstrap}"),
        format!("--topic={topic}"),
        format!("--partitions={}", workload::PARTITIONS),
        format!("--mode={}", cell.mode_name()),
        format!("--codec={}", cell.codec),
        format!("--workload={}", pool.display()),
    ]
}

/// Records in a live topic that is to be read.
fn live_records(settings: &Settings, cell: &Cell) -> u64 {
    (settings.live_megabytes << 20) / cell.size as u64
}

/// The pool of one size, generated on first use.
fn pool_file(size: usize) -> io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("ottla-bench-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{size}.workload"));
    if !path.exists() {
        workload::write(&path, size)?;
    }
    Ok(path)
}

/// Removes the pools of this process.
pub(super) fn remove_pools() {
    let dir = std::env::temp_dir().join(format!("ottla-bench-{}", std::process::id()));
    // Nothing to remove is fine.
    let _ = fs::remove_dir_all(dir);
}

/// The folder of this program, where the sink and our contestants lie too.
fn programs() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().map(Path::to_path_buf).unwrap_or_default())
}

/// Progress for people, and a line of JSON for programs.
fn note(
    settings: &Settings,
    cell: &Cell,
    entrant: &Entrant,
    round: usize,
    run: &Run,
) -> io::Result<()> {
    eprintln!("{cell} round {}: {} {run}", round + 1, entrant.name);
    let Some(path) = &settings.json else {
        return Ok(());
    };
    let line = json!({
        "broker": if settings.live.is_some() { "live" } else { "sink" },
        "mode": cell.mode_name(),
        "size": cell.size,
        "codec": cell.codec,
        "round": round + 1,
        "contestant": entrant.name,
        "records": run.records,
        "seconds": run.seconds,
        "cpu_seconds": run.cpu_seconds,
        "p50_us": run.p50_us,
        "p99_us": run.p99_us,
        "requests": run.sink.map(|sink| sink.0),
        "batch_bytes": run.sink.map(|sink| sink.1),
        "sink_cpu_seconds": run.sink.map(|sink| sink.2),
    });
    writeln!(
        fs::File::options().create(true).append(true).open(path)?,
        "{line}"
    )
}

impl Run {
    pub(super) fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }

    pub(super) fn millions_per_second(&self) -> f64 {
        self.records as f64 / self.seconds / 1e6
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.p50_us, self.p99_us) {
            (Some(p50), Some(p99)) => write!(f, "p50 {p50} µs, p99 {p99} µs")?,
            _ => write!(
                f,
                "{:.3} CPU s per million, {:.2} M records/s",
                self.cpu_per_million(),
                self.millions_per_second()
            )?,
        }
        if let Some((requests, bytes, cpu)) = self.sink {
            let requests = requests.max(1);
            write!(
                f,
                "; {} records and {} KB per request, sink {cpu:.2} CPU s",
                self.records / requests,
                bytes / requests / 1000,
            )?;
        }
        Ok(())
    }
}
