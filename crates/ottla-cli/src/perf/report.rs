//! What a run comes to: rates, processor time, percentiles.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cpu;
use crate::exit::Failure;
use crate::latencies::Latencies;
use crate::{stdout, table};

/// A clock and the processor's, started together.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    cpu: Option<Duration>,
}

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch {
            started: Instant::now(),
            cpu: cpu::used(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn stop(&self, records: u64, bytes: u64) -> Rates {
        Rates {
            records,
            bytes,
            elapsed: self.elapsed(),
            cpu: self.cpu.and_then(|before| Some(cpu::used()? - before)),
        }
    }
}

/// How much went through in which time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) records: u64,
    /// Of keys and values.
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Option<Duration>,
}

/// What to tell of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) what: &'static str,
    pub(crate) topic: String,
    pub(crate) rates: Rates,
    pub(crate) failed: u64,
    /// Histograms with their names in JSON and for people.
    pub(crate) latencies: Vec<(&'static str, &'static str, Latencies)>,
    /// Further fields of the JSON line.
    pub(crate) details: Value,
}

impl Report {
    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            stdout::print_json(&self.json())
        } else {
            stdout::print(self.text())
        }
    }

    fn json(&self) -> Value {
        let Rates {
            records,
            bytes,
            elapsed,
            cpu,
        } = self.rates;
        let seconds = elapsed.as_secs_f64();
        let mut document = json!({
            "perf": self.what,
            "topic": self.topic,
            "records": records,
            "failed": self.failed,
            "bytes": bytes,
            "seconds": seconds,
            "records_per_second": records as f64 / seconds,
            "mib_per_second": bytes as f64 / seconds / MIB,
            "cpu_seconds": cpu.map(|c| c.as_secs_f64()),
            "cpu_seconds_per_million_records": cpu.and_then(|c| per_million(c, records)),
        });
        for (name, _, latencies) in &self.latencies {
            document[format!("{name}_us")] = latencies.json();
        }
        if let (Value::Object(document), Value::Object(details)) = (&mut document, &self.details) {
            document.extend(details.clone());
        }
        document
    }

    fn text(&self) -> String {
        let Rates {
            records,
            bytes,
            elapsed,
            cpu,
        } = self.rates;
        let seconds = elapsed.as_secs_f64();
        let mut text = format!(
            "{records} records, {} in {seconds:.3} s: {:.0} records/s, {}/s\n",
            table::bytes(bytes as f64),
            records as f64 / seconds,
            table::bytes(bytes as f64 / seconds),
        );
        if self.failed > 0 {
            text.push_str(&format!("{} records failed\n", self.failed));
        }
        if let Some(cpu) = cpu {
            text.push_str(&format!("processor time {:.3} s", cpu.as_secs_f64()));
            if let Some(per_million) = per_million(cpu, records) {
                text.push_str(&format!(", {per_million:.3} s per million records"));
            }
            text.push('\n');
        }
        for (_, name, latencies) in &self.latencies {
            text.push_str(&format!("{name}: {}\n", latencies.text()));
        }
        text
    }
}

fn per_million(cpu: Duration, records: u64) -> Option<f64> {
    (records > 0).then(|| cpu.as_secs_f64() / records as f64 * 1e6)
}

const MIB: f64 = 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut latencies = Latencies::new();
        for ms in 1..=100 {
            latencies.record(Duration::from_millis(ms));
        }
        latencies.record(Duration::from_secs(10_000));
        Report {
            what: "produce",
            topic: "t".into(),
            rates: Rates {
                records: 2_000_000,
                bytes: 200 * 1024 * 1024,
                elapsed: Duration::from_secs(2),
                cpu: Some(Duration::from_secs(1)),
            },
            failed: 0,
            latencies: vec![("ack", "acknowledged", latencies)],
            details: json!({ "acks": "all" }),
        }
    }

    #[test]
    fn json_has_every_figure() {
        let json = report().json();
        assert_eq!(json["records_per_second"], 1_000_000.0);
        assert_eq!(json["mib_per_second"], 100.0);
        assert_eq!(json["cpu_seconds_per_million_records"], 0.5);
        assert_eq!(json["acks"], "all");
        let p50 = json["ack_us"]["p50"].as_u64().unwrap();
        assert!((50_000..=51_500).contains(&p50), "{p50}");
        // Beyond the histogram's range counts as its end.
        assert!(json["ack_us"]["max"].as_u64().unwrap() >= 599_000_000);
    }

    #[test]
    fn people_get_lines() {
        let text = report().text();
        assert!(
            text.starts_with("2000000 records, 200.0 MiB in 2.000 s: 1000000 records/s"),
            "{text}"
        );
        assert!(text.contains("0.500 s per million records"), "{text}");
        assert!(text.contains("acknowledged: p50 5"), "{text}");
    }
}
