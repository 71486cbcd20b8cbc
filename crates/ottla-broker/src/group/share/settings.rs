//! What is set for a share group (KIP-932): by its members' operators, with IncrementalAlterConfigs on the group.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_wire::iso_duration;
use serde::{Deserialize, Serialize};

/// The settings of all groups, as they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupConfigs {
    by_group: BTreeMap<String, BTreeMap<String, String>>,
}

/// The settings of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareSettings {
    pub(crate) reset: Reset,
    pub(crate) committed_only: bool,
    pub(crate) lock: Duration,
    pub(crate) deliveries_max: i16,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) session_timeout: Duration,
}

/// Where a group begins in a partition that it has not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    Earliest,
    Latest,
    /// At the first record that is younger than this (KIP-1106).
    ByDuration(Duration),
}

impl Reset {
    fn parse(value: &str) -> Option<Self> {
        match value {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ => {
                let ago = value.strip_prefix(BY_DURATION).and_then(iso_duration);
                ago.map(Self::ByDuration)
            }
        }
    }
}

impl GroupConfigs {
    /// Changes settings of a group; `None` takes a value back.
    pub(crate) fn change<'a>(
        &mut self,
        group: &str,
        changes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<(), String> {
        let mut of = self.by_group.remove(group).unwrap_or_default();
        for (name, value) in changes {
            if !NAMES.contains(&name) {
                return Err(format!("Unknown group config name: {name}"));
            }
            let Some(value) = value else {
                of.remove(name);
                continue;
            };
            check(name, value)?;
            of.insert(name.to_owned(), value.to_owned());
        }
        if !of.is_empty() {
            if self.by_group.len() >= GROUPS_MAX {
                return Err("Too many groups have settings of their own.".to_owned());
            }
            self.by_group.insert(group.to_owned(), of);
        }
        Ok(())
    }

    pub(crate) fn of(&self, group: &str) -> ShareSettings {
        let set = self.by_group.get(group);
        let text = |name: &str| set?.get(name).map(String::as_str);
        let millis = |name: &str, default: u64| {
            // Checked when it was set.
            let set = text(name).and_then(|value| value.parse().ok());
            Duration::from_millis(set.unwrap_or(default))
        };
        ShareSettings {
            reset: text(RESET).and_then(Reset::parse).unwrap_or(Reset::Latest),
            committed_only: text(ISOLATION) == Some("read_committed"),
            lock: millis(LOCK, 30_000),
            deliveries_max: text(DELIVERIES).and_then(|v| v.parse().ok()).unwrap_or(5),
            heartbeat_interval: millis(HEARTBEAT, 5_000),
            session_timeout: millis(SESSION, 45_000),
        }
    }

    /// Every setting's value in force, and whether it was set.
    pub(crate) fn all(&self, group: &str) -> impl Iterator<Item = (&'static str, String, bool)> {
        let settings = self.of(group);
        let set = self.by_group.get(group).cloned().unwrap_or_default();
        let shown = move |name: &'static str| {
            let default = match name {
                // As it was spelled.
                RESET => set.get(RESET).map_or("latest", String::as_str).to_owned(),
                ISOLATION if settings.committed_only => "read_committed".to_owned(),
                ISOLATION => "read_uncommitted".to_owned(),
                LOCK => settings.lock.as_millis().to_string(),
                DELIVERIES => settings.deliveries_max.to_string(),
                HEARTBEAT => settings.heartbeat_interval.as_millis().to_string(),
                _ => settings.session_timeout.as_millis().to_string(),
            };
            (name, default, set.contains_key(name))
        };
        NAMES.into_iter().map(shown)
    }
}

fn check(name: &str, value: &str) -> Result<(), String> {
    let between = |min: u64, max: u64| match value.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(()),
        _ => Err(format!(
            "Invalid value {value} for configuration {name}: must be between {min} and {max}"
        )),
    };
    let one_of = |choices: &[&str]| match choices.contains(&value) {
        true => Ok(()),
        false => Err(format!(
            "Invalid value {value} for configuration {name}: the embedded broker takes {}",
            choices.join(", ")
        )),
    };
    match name {
        RESET if Reset::parse(value).is_some() => Ok(()),
        RESET => Err(format!(
            "Invalid value {value} for configuration {name}: expected earliest, latest, or by_duration: with an \
             ISO-8601 duration that is not negative, such as by_duration:PT1H"
        )),
        ISOLATION => one_of(&["read_committed", "read_uncommitted"]),
        DELIVERIES => between(1, 100),
        LOCK => between(100, 3_600_000),
        _ => between(100, 86_400_000),
    }
}

const RESET: &str = "share.auto.offset.reset";
const ISOLATION: &str = "share.isolation.level";
const LOCK: &str = "share.record.lock.duration.ms";
const DELIVERIES: &str = "share.delivery.count.limit";
const HEARTBEAT: &str = "share.heartbeat.interval.ms";
const SESSION: &str = "share.session.timeout.ms";
const BY_DURATION: &str = "by_duration:";
const NAMES: [&str; 6] = [RESET, DELIVERIES, HEARTBEAT, ISOLATION, LOCK, SESSION];

/// Groups need not exist to be given settings.
const GROUPS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_and_can_be_taken_back() {
        let mut configs = GroupConfigs::default();
        let mut change = |name, value| configs.change("g", [(name, value)].into_iter());
        assert!(change(RESET, Some("earliest")).is_ok());
        assert!(change(LOCK, Some("1000")).is_ok());
        assert!(change(LOCK, Some("1")).unwrap_err().contains("between"));
        assert!(
            change("linger.ms", Some("1"))
                .unwrap_err()
                .contains("linger.ms")
        );
        assert!(change(RESET, Some("by_duration:PT0.5S")).is_ok());
        for bad in [
            "by_duration:",
            "by_duration:1h",
            "by_duration:PT-1H",
            "none",
        ] {
            let mut configs = configs.clone();
            let error = configs.change("g", [(RESET, Some(bad))].into_iter());
            let error = error.unwrap_err();
            assert!(error.contains("by_duration:PT1H"), "{error}");
        }
        let half = Duration::from_millis(500);
        assert_eq!(configs.of("g").reset, Reset::ByDuration(half));
        let shown = configs.all("g").find(|(name, ..)| *name == RESET);
        assert_eq!(shown.unwrap().1, "by_duration:PT0.5S");
        configs.change("g", [(RESET, None)].into_iter()).unwrap();
        assert_eq!(configs.of("g").reset, Reset::Latest);
    }

    #[test]
    fn a_change_that_is_refused_has_the_caller_drop_all_of_it() {
        let mut configs = GroupConfigs::default();
        configs
            .change("g", [(LOCK, Some("1000"))].into_iter())
            .unwrap();
        assert_eq!(configs.of("g").lock, Duration::from_secs(1));
        assert_eq!(configs.of("h").lock, Duration::from_secs(30));
        let set: Vec<_> = configs.all("g").filter(|(.., set)| *set).collect();
        assert_eq!(set, [(LOCK, "1000".to_owned(), true)]);
    }
}
