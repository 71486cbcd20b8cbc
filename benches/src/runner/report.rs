//! The tables: every contestant's figures, and Ottla's as ratios to the floor and to the best peer.

use std::io;

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::contest::{Lane, Raced, Run, remove_pools};
use super::settings::Settings;

/// Prints everything to standard output.
pub(super) fn print(settings: &Settings, results: &[Raced]) -> io::Result<()> {
    remove_pools();
    let broker = if settings.live.is_some() {
        "live"
    } else {
        "sink"
    };
    println!("\nCPU seconds per million records (million records per second), or p50 / p99 in µs;");
    println!(
        "median of {} rounds of {} s.\n",
        settings.rounds, settings.seconds
    );
    let Some(first) = results.first() else {
        return Ok(());
    };
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let names = first.lanes.iter().map(|lane| lane.name.clone());
    table.set_header(std::iter::once(format!("{broker}, mode, size, codec")).chain(names));
    for raced in results {
        let figures = raced.lanes.iter().map(figure);
        table.add_row(std::iter::once(raced.cell.to_string()).chain(figures));
    }
    println!("{table}\n");

    let mut ratios = Table::new();
    ratios.load_style(ASCII_MARKDOWN);
    ratios.set_header([
        format!("{broker}, mode, size, codec"),
        "CPU to floor".into(),
        "CPU to best peer".into(),
        "throughput to best peer".into(),
        "p99 to best peer".into(),
    ]);
    for raced in results {
        ratios.add_row(std::iter::once(raced.cell.to_string()).chain(ratios_of(raced)));
    }
    if first.lanes.iter().any(|lane| lane.name == "ottla") {
        println!("Ottla's figures as ratios; for CPU and latency less is better.\n\n{ratios}\n");
    }
    Ok(())
}

fn figure(lane: &Lane) -> String {
    if lane.failure.is_some() {
        return "failed".into();
    }
    match (
        median(lane, |run| run.p50_us),
        median(lane, |run| run.p99_us),
    ) {
        (Some(p50), Some(p99)) => format!("{p50} / {p99}"),
        _ => format!("{:.2} ({:.2})", cpu(lane), throughput(lane)),
    }
}

fn ratios_of(raced: &Raced) -> [String; 4] {
    let find = |name: &str| {
        raced
            .lanes
            .iter()
            .find(|lane| lane.name == name && !lane.runs.is_empty())
    };
    let peers: Vec<&Lane> = raced
        .lanes
        .iter()
        .filter(|lane| lane.name != "floor" && lane.name != "ottla" && !lane.runs.is_empty())
        .collect();
    let Some(ottla) = find("ottla") else {
        return Default::default();
    };
    let ratio = |ours: f64, theirs: Option<f64>| {
        theirs.map_or_else(String::new, |theirs| format!("{:.2}", ours / theirs))
    };
    let least = |of: &dyn Fn(&Lane) -> f64| peers.iter().map(|lane| of(lane)).reduce(f64::min);
    if let Some(ours) = p99(ottla) {
        let best = peers.iter().filter_map(|lane| p99(lane)).reduce(f64::min);
        return [
            String::new(),
            String::new(),
            String::new(),
            ratio(ours, best),
        ];
    }
    [
        ratio(cpu(ottla), find("floor").map(cpu)),
        ratio(cpu(ottla), least(&cpu)),
        ratio(
            throughput(ottla),
            peers.iter().map(|lane| throughput(lane)).reduce(f64::max),
        ),
        String::new(),
    ]
}

fn cpu(lane: &Lane) -> f64 {
    median(lane, |run| Some(run.cpu_per_million())).unwrap_or(f64::NAN)
}

fn throughput(lane: &Lane) -> f64 {
    median(lane, |run| Some(run.millions_per_second())).unwrap_or(f64::NAN)
}

fn p99(lane: &Lane) -> Option<f64> {
    median(lane, |run| run.p99_us).map(|value| value as f64)
}

/// The middle run; of an even number, the better of the two in the middle for what is best low.
fn median<T: PartialOrd + Copy>(lane: &Lane, of: impl Fn(&Run) -> Option<T>) -> Option<T> {
    let mut values: Vec<T> = lane.runs.iter().filter_map(of).collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().checked_sub(1)? / 2).copied()
}
