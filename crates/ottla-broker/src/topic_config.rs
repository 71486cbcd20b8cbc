//! A topic's settings by Kafka's names: what may be set, what it means when nothing is, and its typed form.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::LogSettings;
use crate::log::compaction::CompactionSettings;

/// The settings of one topic: what was set, and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct TopicConfig {
    set: BTreeMap<&'static str, String>,
    /// What the broker was started with for topics that set nothing else.
    defaults: Arc<BTreeMap<&'static str, String>>,
    pub(crate) log: LogSettings,
    /// `max.message.bytes`
    pub(crate) max_message_bytes: usize,
    /// `message.timestamp.type=LogAppendTime`
    pub(crate) log_append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub(crate) timestamp_after_max_ms: i64,
    /// `min.insync.replicas`
    pub(crate) min_insync_replicas: usize,
}

/// One setting that a topic has.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Boolean,
    OneOf(&'static [&'static str]),
    ListOf(&'static [&'static str]),
    /// `*`, or a list of PARTITION:BROKER.
    Replicas,
}

impl TopicConfig {
    /// Settings from names and values; what is not among them keeps its default.
    ///
    /// # Errors
    /// A sentence that names the setting, the value, and what would be valid.
    #[cfg(test)]
    pub(crate) fn new<'a>(
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        Self::with_defaults(&[], values)
    }

    /// Settings from names and values; what is not among them has the broker's default, or Kafka's.
    ///
    /// # Errors
    /// As [`TopicConfig::new`].
    pub(crate) fn with_defaults<'a>(
        defaults: &[(String, String)],
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let defaults = defaults
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let defaults = Arc::new(checked(defaults)?);
        Ok(Self::from_checked(checked(values)?, defaults))
    }

    /// The same topic with these settings instead of those it had.
    pub(crate) fn replaced<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let defaults = Arc::clone(&self.defaults);
        Ok(Self::from_checked(checked(values)?, defaults))
    }

    /// These settings with some changed: `None` takes a setting back to its default.
    pub(crate) fn with_changes<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, String> {
        let mut set = self.set.clone();
        for (name, value) in changes {
            let setting = Setting::find(name)?;
            match value {
                None => {
                    set.remove(setting.name);
                }
                Some(value) => {
                    setting.check(value)?;
                    set.insert(setting.name, value.trim().to_owned());
                }
            }
        }
        Ok(Self::from_checked(set, Arc::clone(&self.defaults)))
    }

    /// The value in force of `setting`, and whether it was set for this topic.
    pub(crate) fn value(&self, setting: &Setting) -> (&str, bool) {
        match self.set.get(setting.name) {
            Some(value) => (value, true),
            None => (
                self.broker_default(setting).unwrap_or(setting.default),
                false,
            ),
        }
    }

    /// What the broker was started with for `setting`, if it was started with anything.
    pub(crate) fn broker_default(&self, setting: &Setting) -> Option<&str> {
        self.defaults.get(setting.name).map(String::as_str)
    }

    /// What was set, by name.
    pub(crate) fn overrides(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.set.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn from_checked(
        set: BTreeMap<&'static str, String>,
        defaults: Arc<BTreeMap<&'static str, String>>,
    ) -> Self {
        let text = |name: &str| {
            let default = || Setting::find(name).map_or("", |setting| setting.default);
            set.get(name)
                .or_else(|| defaults.get(name))
                .map_or_else(default, String::as_str)
        };
        // Every value was checked against its kind when it was put into `set`.
        let integer = |name: &str| text(name).parse::<i64>().unwrap_or_default();
        let policies: Vec<&str> = text("cleanup.policy").split(',').map(str::trim).collect();
        let log = LogSettings {
            segment_bytes: integer("segment.bytes") as u64,
            segment_ms: integer("segment.ms"),
            retention_bytes: integer("retention.bytes"),
            retention_ms: integer("retention.ms"),
            delete: policies.contains(&"delete"),
            compact: policies.contains(&"compact"),
            compaction: CompactionSettings {
                delete_retention_ms: integer("delete.retention.ms"),
                lag_min_ms: integer("min.compaction.lag.ms"),
                lag_max_ms: integer("max.compaction.lag.ms"),
                dirty_ratio_min: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            },
            sync_each_append: integer("flush.messages") == 1,
        };
        let log_append_time = text("message.timestamp.type") == "LogAppendTime";
        Self {
            log,
            max_message_bytes: integer("max.message.bytes") as usize,
            log_append_time,
            timestamp_before_max_ms: integer("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: integer("message.timestamp.after.max.ms"),
            min_insync_replicas: integer("min.insync.replicas") as usize,
            set,
            defaults,
        }
    }
}

/// Names and values as they are kept, or what is wrong with the first that cannot be.
fn checked<'a>(
    values: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<BTreeMap<&'static str, String>, String> {
    let mut set = BTreeMap::new();
    for (name, value) in values {
        let setting = Setting::find(name)?;
        setting.check(value)?;
        set.insert(setting.name, value.trim().to_owned());
    }
    Ok(set)
}

impl Setting {
    pub(crate) fn find(name: &str) -> Result<&'static Self, String> {
        SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(|| format!("Unknown topic config name: {name}"))
    }

    /// Kafka's number for the kind, as DescribeConfigs carries it.
    pub(crate) fn wire_type(&self) -> i8 {
        match self.kind {
            Kind::Boolean => 1,
            Kind::OneOf(_) => 2,
            Kind::Integer { max, .. } if max <= i64::from(i32::MAX) => 3,
            Kind::Integer { .. } => 5,
            Kind::Float { .. } => 6,
            Kind::ListOf(_) | Kind::Replicas => 7,
        }
    }

    fn check(&self, value: &str) -> Result<(), String> {
        let value = value.trim();
        let name = self.name;
        let invalid = |expected: String| {
            Err(format!(
                "Invalid value {value} for configuration {name}: {expected}"
            ))
        };
        match self.kind {
            Kind::Integer { min, max } => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(_) => invalid(format!("Value must be between {min} and {max}")),
                Err(_) => invalid("Not a whole number".to_owned()),
            },
            Kind::Float { min, max } => match value.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(_) => invalid(format!("Value must be between {min} and {max}")),
                Err(_) => invalid("Not a number".to_owned()),
            },
            Kind::Boolean => match value {
                "true" | "false" => Ok(()),
                _ => invalid("Expected true or false".to_owned()),
            },
            Kind::OneOf(choices) if choices.contains(&value) => Ok(()),
            Kind::OneOf(choices) => invalid(format!("Must be one of {}", choices.join(", "))),
            Kind::Replicas => {
                let is_replica = |part: &str| {
                    part.split_once(':').is_some_and(|(partition, broker)| {
                        partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
                    })
                };
                let all = value.split(',').map(str::trim).all(is_replica);
                if value.is_empty() || value == "*" || all {
                    return Ok(());
                }
                invalid("Must be * or a list of PARTITION:BROKER".to_owned())
            }
            Kind::ListOf(choices) => {
                match value
                    .split(',')
                    .map(str::trim)
                    .find(|part| !choices.contains(part))
                {
                    None => Ok(()),
                    Some(_) => invalid(format!("Must be a list of {}", choices.join(", "))),
                }
            }
        }
    }
}

/// Every setting that a topic has; a broker without special settings of its own uses these defaults.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        default: "delete",
        kind: Kind::ListOf(&["delete", "compact"]),
        doc: "What happens to old segments: removed, or reduced to the newest record of each key.",
    },
    Setting {
        name: "compression.type",
        default: "producer",
        kind: Kind::OneOf(&["producer"]),
        doc: "Batches are kept as their producer compressed them.",
    },
    Setting {
        name: "delete.retention.ms",
        default: "86400000",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        doc: "How long a tombstone outlives its compaction, in milliseconds.",
    },
    Setting {
        name: "flush.messages",
        default: "9223372036854775807",
        kind: Kind::Integer {
            min: 1,
            max: i64::MAX,
        },
        doc: "1 puts every batch on the disk before it is acknowledged; larger values leave that to the system.",
    },
    Setting {
        name: "flush.ms",
        default: "9223372036854775807",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        doc: "Accepted for compatibility; the system decides when bytes reach the disk.",
    },
    Setting {
        name: "follower.replication.throttled.replicas",
        default: "",
        kind: Kind::Replicas,
        doc: "Accepted for the tools that move partitions; nothing is copied here that could be slowed down.",
    },
    Setting {
        name: "leader.replication.throttled.replicas",
        default: "",
        kind: Kind::Replicas,
        doc: "Accepted for the tools that move partitions; nothing is copied here that could be slowed down.",
    },
    Setting {
        name: "max.compaction.lag.ms",
        default: "9223372036854775807",
        kind: Kind::Integer {
            min: 1,
            max: i64::MAX,
        },
        doc: "How long a record may stay as it is before compaction looks at it, in milliseconds.",
    },
    Setting {
        name: "max.message.bytes",
        default: "1048588",
        kind: Kind::Integer {
            min: 0,
            max: i32::MAX as i64,
        },
        doc: "The largest batch that is taken, in bytes.",
    },
    Setting {
        name: "message.timestamp.after.max.ms",
        default: "3600000",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        doc: "How far ahead of the broker's clock a record's timestamp may be.",
    },
    Setting {
        name: "message.timestamp.before.max.ms",
        default: "9223372036854775807",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        doc: "How far behind the broker's clock a record's timestamp may be.",
    },
    Setting {
        name: "message.timestamp.type",
        default: "CreateTime",
        kind: Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        doc: "Whether records keep their producer's time or get the broker's.",
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        kind: Kind::Float { min: 0.0, max: 1.0 },
        doc: "Share of a log that must be new since the last compaction before the next one.",
    },
    Setting {
        name: "min.compaction.lag.ms",
        default: "0",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        doc: "How long a record stays as it is before compaction may remove it.",
    },
    Setting {
        name: "min.insync.replicas",
        default: "1",
        kind: Kind::Integer {
            min: 1,
            max: i32::MAX as i64,
        },
        doc: "How many replicas must be up for a produce request with acks=all.",
    },
    Setting {
        name: "retention.bytes",
        default: "-1",
        kind: Kind::Integer {
            min: -1,
            max: i64::MAX,
        },
        doc: "Size of a partition above which its oldest segments go; -1 for no limit.",
    },
    Setting {
        name: "retention.ms",
        default: "604800000",
        kind: Kind::Integer {
            min: -1,
            max: i64::MAX,
        },
        doc: "Age above which segments go, in milliseconds; -1 for no limit.",
    },
    Setting {
        name: "segment.bytes",
        default: "1073741824",
        kind: Kind::Integer {
            min: 1024,
            max: i32::MAX as i64,
        },
        doc: "Size at which a new segment begins.",
    },
    Setting {
        name: "segment.ms",
        default: "604800000",
        kind: Kind::Integer {
            min: 1,
            max: i64::MAX,
        },
        doc: "Age at which a new segment begins, in milliseconds.",
    },
    Setting {
        name: "unclean.leader.election.enable",
        default: "false",
        kind: Kind::Boolean,
        doc: "Whether a replica that is behind may lead when no other is up.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_names_are_sorted() {
        for setting in SETTINGS {
            setting.check(setting.default).unwrap();
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    }

    #[test]
    fn errors_name_setting_value_and_range() {
        let error = TopicConfig::new([("retention.ms", "-5")]).unwrap_err();
        assert!(
            error.contains("retention.ms") && error.contains("-5") && error.contains("between")
        );
        let error = TopicConfig::new([("retention.mss", "5")]).unwrap_err();
        assert!(error.contains("retention.mss"));
        assert!(
            TopicConfig::new([("cleanup.policy", "compact, delete")])
                .unwrap()
                .log
                .compact
        );
    }

    #[test]
    fn a_topic_without_a_setting_has_the_brokers_then_kafkas() {
        let defaults = [("retention.ms".to_owned(), " 7 ".to_owned())];
        let with = |values: &[(&'static str, &'static str)]| {
            TopicConfig::with_defaults(&defaults, values.iter().copied()).unwrap()
        };
        assert_eq!(with(&[]).log.retention_ms, 7);
        assert_eq!(with(&[]).log.segment_ms, 604_800_000);
        let own = with(&[("retention.ms", "9")]);
        assert_eq!(own.log.retention_ms, 9);
        let setting = Setting::find("retention.ms").unwrap();
        assert_eq!(own.broker_default(setting), Some("7"));
        // The broker's default comes back, by either way of taking a setting back.
        let changed = own.with_changes([("retention.ms", None)]).unwrap();
        assert_eq!(changed.value(setting), ("7", false));
        assert_eq!(own.replaced([]).unwrap().log.retention_ms, 7);
    }

    #[test]
    fn a_change_without_a_value_restores_the_default() {
        let config = TopicConfig::new([("retention.ms", "5")]).unwrap();
        assert_eq!(config.log.retention_ms, 5);
        let config = config.with_changes([("retention.ms", None)]).unwrap();
        assert_eq!(config.log.retention_ms, 604_800_000);
        assert_eq!(config.overrides().count(), 0);
    }
}
