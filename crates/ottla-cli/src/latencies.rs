//! How long things took, and how to tell that.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies in microseconds, up to ten minutes, to three digits.
#[derive(Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)
            .expect("the bounds and digits are constants that fit each other");
        Latencies { histogram }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros.max(1));
    }

    /// Names and microseconds.
    pub(crate) fn percentiles(&self) -> [(&'static str, u64); 4] {
        let at = |q| self.histogram.value_at_quantile(q);
        [
            ("p50", at(0.5)),
            ("p95", at(0.95)),
            ("p99", at(0.99)),
            ("max", self.histogram.max()),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let mut document = json!({ "mean": self.histogram.mean() });
        for (name, micros) in self.percentiles() {
            document[name] = json!(micros);
        }
        document
    }

    pub(crate) fn text(&self) -> String {
        let parts: Vec<_> = self
            .percentiles()
            .iter()
            .map(|(name, micros)| format!("{name} {}", time(*micros)))
            .collect();
        parts.join("  ")
    }
}

/// Microseconds as people read them.
pub(crate) fn time(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} µs"),
        10_000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

const LATENCY_MICROS_MAX: u64 = 600_000_000;
