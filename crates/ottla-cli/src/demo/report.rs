//! What the demo came to: counts beside what they must be, rates and latencies.

use std::time::Duration;

use clickstream::{Kind, Topics};
use indicatif::HumanCount;
use serde_json::{Value, json};

use super::audit::Found;
use super::generate::Written;
use crate::latencies::Latencies;
use crate::table;

#[derive(Debug)]
pub(super) struct Report {
    /// As many clicks as were asked for.
    pub(super) messages: u64,
    pub(super) topics: Topics,
    pub(super) partitions: i32,
    pub(super) written: Written,
    pub(super) workers: Vec<WorkerCounts>,
    /// Results that the observer has read.
    pub(super) observed: u64,
    pub(super) loads: Vec<Load>,
    pub(super) found: Found,
}

/// What one worker has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WorkerCounts {
    pub(super) partitions: usize,
    pub(super) consumed: u64,
    pub(super) enriched: u64,
    pub(super) dead_lettered: u64,
}

/// One load: clicks, and how they went through.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) clicks: u64,
    /// From the first click sent to the last result read.
    pub(super) elapsed: Duration,
    pub(super) latencies: Latencies,
}

/// A count, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) what: String,
    pub(super) expected: u64,
    pub(super) found: u64,
}

impl Check {
    pub(super) fn holds(&self) -> bool {
        self.expected == self.found
    }
}

impl Load {
    fn per_second(&self) -> f64 {
        self.clicks as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }
}

impl Report {
    /// Everything that must add up.
    ///
    /// The processor promises *at least once*: a repeat would not be its fault after a failure. Nothing fails here, so
    /// that one is a mistake.
    pub(super) fn checks(&self) -> Vec<Check> {
        let check = |what: &str, expected, found| Check {
            what: what.to_owned(),
            expected,
            found,
        };
        let malformed = self.written.malformed();
        let valid = self.written.acknowledged.saturating_sub(malformed);
        let sum = |count: fn(&WorkerCounts) -> u64| self.workers.iter().map(count).sum();
        let Topics {
            clicks,
            enriched,
            dead_letters,
        } = &self.topics;
        let found = &self.found;
        let mut checks = vec![
            check("clicks written", self.messages, self.written.sent),
            check(
                "clicks acknowledged",
                self.messages,
                self.written.acknowledged,
            ),
            check(&format!("records in {clicks}"), self.messages, found.clicks),
            check(
                "clicks consumed by workers",
                self.messages,
                sum(|w| w.consumed),
            ),
            check("clicks enriched by workers", valid, sum(|w| w.enriched)),
            check(
                "clicks dead-lettered by workers",
                malformed,
                sum(|w| w.dead_lettered),
            ),
            check(&format!("records in {enriched}"), valid, found.enriched),
            check(
                &format!("records in {dead_letters}"),
                malformed,
                found.dead_letters,
            ),
            check("results read as they came", self.messages, self.observed),
            check(
                "clicks committed by the group",
                self.messages,
                found.committed,
            ),
            check("clicks without a result", 0, found.lost),
            check("results beyond the first of a click", 0, found.repeated),
            check(
                "results that are not what their click becomes",
                0,
                found.wrong,
            ),
        ];
        for kind in Kind::ALL {
            let name = kind.name();
            let expected = self.written.mistakes.get(&kind).copied().unwrap_or(0);
            let found = self.found.mistakes.get(name).copied().unwrap_or(0);
            checks.push(check(
                &format!("dead letters of kind {name}"),
                expected,
                found,
            ));
        }
        checks
    }

    pub(super) fn text(&self) -> String {
        let count = |n: u64| HumanCount(n).to_string();
        let mut text = String::new();

        let mut topics = table::new(&["topic", "partitions", "records", "expected"]);
        table::right(&mut topics, &[1, 2, 3]);
        let malformed = self.written.malformed();
        let valid = self.written.acknowledged.saturating_sub(malformed);
        for (name, found, expected) in [
            (&self.topics.clicks, self.found.clicks, self.messages),
            (&self.topics.enriched, self.found.enriched, valid),
            (
                &self.topics.dead_letters,
                self.found.dead_letters,
                malformed,
            ),
        ] {
            topics.add_row([
                name.clone(),
                self.partitions.to_string(),
                count(found),
                count(expected),
            ]);
        }
        text.push_str(&table::text(&topics));

        let mut workers = table::new(&[
            "worker",
            "partitions",
            "consumed",
            "enriched",
            "dead-lettered",
        ]);
        table::right(&mut workers, &[1, 2, 3, 4]);
        for (i, worker) in self.workers.iter().enumerate() {
            workers.add_row([
                (i + 1).to_string(),
                worker.partitions.to_string(),
                count(worker.consumed),
                count(worker.enriched),
                count(worker.dead_lettered),
            ]);
        }
        text.push_str(&format!("\n{}", table::text(&workers)));

        let kinds: Vec<_> = self
            .found
            .mistakes
            .iter()
            .map(|(kind, found)| format!("{kind} {}", count(*found)))
            .collect();
        text.push_str(&format!("\ndead letters: {}\n", kinds.join(", ")));

        for load in &self.loads {
            text.push_str(&format!(
                "\n{} clicks {}: {:.2} s, {} per second\n  from sending a click to reading its result: {}\n",
                count(load.clicks),
                load.name,
                load.elapsed.as_secs_f64(),
                count(load.per_second() as u64),
                load.latencies.text(),
            ));
        }

        let checks = self.checks();
        let wrong: Vec<_> = checks.iter().filter(|check| !check.holds()).collect();
        if wrong.is_empty() {
            text.push_str(&format!("\nall {} counts add up\n", checks.len()));
        } else {
            let mut rows = table::new(&["does not add up", "expected", "found"]);
            table::right(&mut rows, &[1, 2]);
            for check in wrong {
                rows.add_row([
                    check.what.clone(),
                    count(check.expected),
                    count(check.found),
                ]);
            }
            text.push_str(&format!("\n{}", table::text(&rows)));
        }
        text
    }

    pub(super) fn json(&self, bootstrap: &str) -> Value {
        let checks = self.checks();
        let workers: Vec<_> = self
            .workers
            .iter()
            .map(|worker| {
                json!({
                    "partitions": worker.partitions, "consumed": worker.consumed,
                    "enriched": worker.enriched, "dead_lettered": worker.dead_lettered,
                })
            })
            .collect();
        let loads: Vec<_> = self
            .loads
            .iter()
            .map(|load| {
                json!({
                    "name": load.name, "clicks": load.clicks,
                    "seconds": load.elapsed.as_secs_f64(),
                    "clicks_per_second": load.per_second(),
                    "end_to_end_us": load.latencies.json(),
                })
            })
            .collect();
        json!({
            "bootstrap_servers": bootstrap,
            "messages": self.messages,
            "generated": { "valid": self.written.acknowledged.saturating_sub(self.written.malformed()),
                           "malformed": self.written.malformed() },
            "topics": {
                (self.topics.clicks.as_str()): self.found.clicks,
                (self.topics.enriched.as_str()): self.found.enriched,
                (self.topics.dead_letters.as_str()): self.found.dead_letters,
            },
            "dead_letters": self.found.mistakes,
            "workers": workers,
            "loads": loads,
            "checks": checks.iter().map(|check| json!({
                "what": check.what, "expected": check.expected, "found": check.found,
            })).collect::<Vec<_>>(),
            "ok": checks.iter().all(Check::holds),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn report() -> Report {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_millis(4));
        Report {
            messages: 1_000,
            topics: Topics::default(),
            partitions: 12,
            written: Written {
                sent: 1_000,
                acknowledged: 1_000,
                mistakes: BTreeMap::from([(Kind::NotJson, 12), (Kind::BadIp, 8)]),
            },
            workers: vec![
                WorkerCounts {
                    partitions: 8,
                    consumed: 600,
                    enriched: 590,
                    dead_lettered: 10,
                },
                WorkerCounts {
                    partitions: 4,
                    consumed: 400,
                    enriched: 390,
                    dead_lettered: 10,
                },
            ],
            observed: 1_000,
            loads: vec![Load {
                name: "as fast as they go",
                clicks: 1_000,
                elapsed: Duration::from_millis(500),
                latencies,
            }],
            found: Found {
                clicks: 1_000,
                enriched: 980,
                dead_letters: 20,
                mistakes: BTreeMap::from([("not_json".into(), 12), ("bad_ip".into(), 8)]),
                lost: 0,
                repeated: 0,
                wrong: 0,
                committed: 1_000,
            },
        }
    }

    fn wrong(report: &Report) -> Vec<String> {
        let checks = report.checks().into_iter();
        checks.filter(|c| !c.holds()).map(|c| c.what).collect()
    }

    #[test]
    fn a_run_without_a_mistake_adds_up() {
        let report = report();
        assert_eq!(wrong(&report), [""; 0]);
        let text = report.text();
        assert!(text.contains("all 19 counts add up"), "{text}");
        assert!(text.contains("2,000 per second"), "{text}");
        assert_eq!(report.json("here:1")["ok"], true);
    }

    #[test]
    fn each_count_is_looked_at() {
        type Break = fn(&mut Report);
        let cases: [(&str, Break); 12] = [
            ("clicks written", |r| r.written.sent -= 1),
            ("records in user_clicks", |r| r.found.clicks += 1),
            ("clicks consumed by workers", |r| r.workers[0].consumed += 1),
            ("clicks enriched by workers", |r| r.workers[1].enriched -= 1),
            ("clicks dead-lettered by workers", |r| {
                r.workers[1].dead_lettered -= 1;
            }),
            ("records in enriched_clicks", |r| r.found.enriched += 1),
            ("records in user_clicks_dlq", |r| r.found.dead_letters -= 1),
            ("results read as they came", |r| r.observed -= 1),
            ("clicks committed by the group", |r| r.found.committed -= 1),
            ("clicks without a result", |r| r.found.lost += 1),
            ("results beyond the first of a click", |r| {
                r.found.repeated += 1;
            }),
            ("results that are not what their click becomes", |r| {
                r.found.wrong += 1;
            }),
        ];
        for (what, break_it) in cases {
            let mut report = report();
            break_it(&mut report);
            assert_eq!(wrong(&report), [what]);
            assert!(report.text().contains(what));
            assert_eq!(report.json("here:1")["ok"], false);
        }
        let mut swapped = report();
        swapped.found.mistakes = BTreeMap::from([("not_json".into(), 8), ("bad_ip".into(), 12)]);
        assert_eq!(
            wrong(&swapped).len(),
            2,
            "the sum is right, the kinds are not"
        );
    }

    #[test]
    fn a_click_that_nobody_acknowledged_shows_everywhere() {
        let mut report = report();
        report.written.acknowledged -= 1;
        assert_eq!(
            wrong(&report),
            [
                "clicks acknowledged",
                "clicks enriched by workers",
                "records in enriched_clicks"
            ]
        );
    }
}
