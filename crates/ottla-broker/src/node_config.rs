//! Settings by Kafka's names, as `server.properties` has them: what can be set, and what it does to
//! [`BrokerOptions`].
//!
//! Two kinds share one name space, as in Kafka: a node's own settings, in the table here, and the defaults of
//! topics' settings, under the name that topics have for them or the one that brokers have.

use std::time::Duration;

use crate::error::Error;
use crate::options::BrokerOptions;
use crate::topic_config::{SETTINGS, TopicConfig};

/// One thing that [`BrokerOptions::set`] can set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: Vec<&'static str>,
    /// What holds unless it is set.
    pub default: String,
    /// What it does, with its unit.
    pub doc: &'static str,
}

impl BrokerOptions {
    /// Sets an option by Kafka's name for it: a node's, such as `num.partitions`, or the default of a topic's
    /// setting, such as `retention.ms` or, the same thing, `log.retention.ms`.
    ///
    /// ```
    /// let mut options = ottla_broker::BrokerOptions::default();
    /// options.set("num.partitions", "6")?;
    /// options.set("log.retention.ms", "60000")?;
    /// assert_eq!(options.partitions, 6);
    /// # Ok::<(), ottla_broker::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] for a name that is not among [`Self::settings`], and a value that does not fit. Nothing
    /// is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value = value.trim();
        if let Some(setting) = NODE_SETTINGS.iter().find(|setting| setting.name == name) {
            return (setting.set)(self, value)
                .map_err(|expected| Error::Options(format!("{name}={value}: {expected}")));
        }
        let topics_name = topic_setting(name)
            .ok_or_else(|| Error::Options(format!("there is no setting `{name}`")))?;
        TopicConfig::with_defaults(&[], [(topics_name, value)]).map_err(Error::Options)?;
        self.topic_defaults
            .retain(|(other, _)| other != topics_name);
        self.topic_defaults
            .push((topics_name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Everything that [`Self::set`] can set.
    pub fn settings() -> impl Iterator<Item = Setting> {
        let defaults = Self::default();
        let nodes = NODE_SETTINGS.iter().map(move |setting| Setting {
            name: setting.name,
            aliases: Vec::new(),
            default: (setting.show)(&defaults),
            doc: setting.doc,
        });
        let topics = SETTINGS.iter().map(|setting| Setting {
            name: setting.name,
            aliases: BROKER_NAMES
                .iter()
                .filter(|(_, topics_name)| *topics_name == setting.name)
                .map(|(name, _)| *name)
                .collect(),
            default: setting.default.to_owned(),
            doc: setting.doc,
        });
        nodes.chain(topics)
    }
}

/// The topic's name for what brokers call `name`, or for itself.
fn topic_setting(name: &str) -> Option<&'static str> {
    let alias = BROKER_NAMES.iter().find(|(alias, _)| *alias == name);
    let own = || {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        setting.map(|setting| setting.name)
    };
    alias.map(|(_, topics_name)| *topics_name).or_else(own)
}

/// A setting of a node.
pub(crate) struct NodeSetting {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// Kafka's number for the kind of its value.
    pub(crate) wire_type: i8,
    pub(crate) show: fn(&BrokerOptions) -> String,
    /// Says what would be valid where `value` is not.
    set: fn(&mut BrokerOptions, &str) -> Result<(), String>,
}

fn number<T: TryFrom<i64>>(value: &str, min: i64, max: i64) -> Result<T, String> {
    value
        .parse::<i64>()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("expected a whole number from {min} to {max}"))
}

fn millis(value: &str, min: i64) -> Result<Duration, String> {
    number(value, min, i64::from(i32::MAX)).map(Duration::from_millis)
}

/// Every setting of a node, sorted by name.
pub(crate) const NODE_SETTINGS: &[NodeSetting] = &[
    NodeSetting {
        name: "auto.create.topics.enable",
        doc: "Whether a topic is made when a client asks for one that does not exist.",
        wire_type: TYPE_BOOLEAN,
        show: |options| options.auto_create_topics.to_string(),
        set: |options, value| {
            options.auto_create_topics = value
                .parse()
                .map_err(|_| "expected true or false".to_owned())?;
            Ok(())
        },
    },
    NodeSetting {
        name: "connections.max.idle.ms",
        doc: "Silence after which a connection is closed, in milliseconds.",
        wire_type: TYPE_LONG,
        show: |options| options.idle_max.as_millis().to_string(),
        set: |options, value| {
            options.idle_max = millis(value, 1)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "default.replication.factor",
        doc: "Replicas of a topic made without a number; never more than there are nodes.",
        wire_type: TYPE_INT,
        show: |options| options.replication.to_string(),
        set: |options, value| {
            options.replication = number(value, 1, i64::from(i16::MAX))?;
            Ok(())
        },
    },
    NodeSetting {
        name: "group.consumer.heartbeat.interval.ms",
        doc: "How often members of consumer groups say that they live, in milliseconds.",
        wire_type: TYPE_INT,
        show: |options| options.consumer_heartbeat_interval.as_millis().to_string(),
        set: |options, value| {
            options.consumer_heartbeat_interval = millis(value, 1)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "group.consumer.migration.policy",
        doc: "Which groups with members change their protocol: bidirectional, upgrade (from classic to consumer), downgrade, \
              or disabled.",
        wire_type: TYPE_STRING,
        show: |options| options.consumer_migration.to_string(),
        set: |options, value| {
            options.consumer_migration = value.parse()?;
            Ok(())
        },
    },
    NodeSetting {
        name: "group.consumer.session.timeout.ms",
        doc: "Silence after which a member of a consumer group counts as gone, in milliseconds.",
        wire_type: TYPE_INT,
        show: |options| options.consumer_session_timeout.as_millis().to_string(),
        set: |options, value| {
            options.consumer_session_timeout = millis(value, 1)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "group.initial.rebalance.delay.ms",
        doc: "How long an empty group waits for more members before its first rebalance, in milliseconds.",
        wire_type: TYPE_INT,
        show: |options| options.initial_rebalance_delay.as_millis().to_string(),
        set: |options, value| {
            options.initial_rebalance_delay = millis(value, 0)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "log.cleaner.backoff.ms",
        doc: "How often compacted topics are looked at, in milliseconds.",
        wire_type: TYPE_LONG,
        show: |options| options.cleaner_backoff.as_millis().to_string(),
        set: |options, value| {
            options.cleaner_backoff = millis(value, 1)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "log.retention.check.interval.ms",
        doc: "How often old segments are looked for, in milliseconds.",
        wire_type: TYPE_LONG,
        show: |options| options.retention_check_interval.as_millis().to_string(),
        set: |options, value| {
            options.retention_check_interval = millis(value, 1)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "max.connections",
        doc: "How many connections each node serves at a time; more are refused.",
        wire_type: TYPE_INT,
        show: |options| options.connections_max.to_string(),
        set: |options, value| {
            options.connections_max = number(value, 1, 1_000_000)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "num.partitions",
        doc: "Partitions of a topic made without a number.",
        wire_type: TYPE_INT,
        show: |options| options.partitions.to_string(),
        set: |options, value| {
            options.partitions = number(value, 1, 100_000)?;
            Ok(())
        },
    },
    NodeSetting {
        name: "offsets.retention.minutes",
        doc: "How long offsets are kept that no member of their group reads on from, in minutes.",
        wire_type: TYPE_INT,
        show: |options| (options.offsets_retention.as_secs() / 60).to_string(),
        set: |options, value| {
            let minutes: u64 = number(value, 1, i64::from(i32::MAX))?;
            options.offsets_retention = Duration::from_secs(minutes * 60);
            Ok(())
        },
    },
    NodeSetting {
        name: "replica.selector.class",
        doc: "Which replica consumers are sent to: empty for the leader, or Kafka's RackAwareReplicaSelector for a \
              follower in their rack.",
        wire_type: TYPE_STRING,
        show: |options| match options.rack_aware_reads {
            true => RACK_AWARE.to_owned(),
            false => String::new(),
        },
        set: |options, value| {
            options.rack_aware_reads = match value {
                RACK_AWARE => true,
                "" | "org.apache.kafka.common.replica.LeaderSelector" => false,
                _ => return Err(format!("expected nothing, or {RACK_AWARE}")),
            };
            Ok(())
        },
    },
    NodeSetting {
        name: "socket.request.max.bytes",
        doc: "The largest request that is read, in bytes.",
        wire_type: TYPE_INT,
        show: |options| options.request_bytes_max.to_string(),
        set: |options, value| {
            options.request_bytes_max = number(value, 1024, i64::from(i32::MAX))?;
            Ok(())
        },
    },
];

/// What brokers call the defaults of topics' settings, where that differs.
const BROKER_NAMES: &[(&str, &str)] = &[
    ("log.cleaner.delete.retention.ms", "delete.retention.ms"),
    (
        "log.cleaner.min.cleanable.ratio",
        "min.cleanable.dirty.ratio",
    ),
    ("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms"),
    ("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms"),
    ("log.cleanup.policy", "cleanup.policy"),
    ("log.flush.interval.messages", "flush.messages"),
    ("log.flush.interval.ms", "flush.ms"),
    (
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
    ),
    (
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
    ),
    ("log.message.timestamp.type", "message.timestamp.type"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.roll.ms", "segment.ms"),
    ("log.segment.bytes", "segment.bytes"),
    ("message.max.bytes", "max.message.bytes"),
];

const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
pub(crate) const TYPE_LONG: i8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_set_to_its_default_under_every_name() {
        for setting in BrokerOptions::settings() {
            let mut options = BrokerOptions::default();
            for name in setting.aliases.iter().chain([&setting.name]) {
                options.set(name, &setting.default).unwrap();
            }
            assert!(options.topic_defaults.len() <= 1, "{}", setting.name);
        }
        assert!(NODE_SETTINGS.is_sorted_by_key(|setting| setting.name));
        for (_, name) in BROKER_NAMES {
            assert!(
                SETTINGS.iter().any(|setting| setting.name == *name),
                "{name}"
            );
        }
    }

    #[test]
    fn the_later_of_two_names_for_one_thing_holds() {
        let mut options = BrokerOptions::default();
        options.set("retention.ms", "1").unwrap();
        options.set("log.retention.ms", "2").unwrap();
        let expected = [("retention.ms".to_owned(), "2".to_owned())];
        assert_eq!(options.topic_defaults, expected);
    }

    #[test]
    fn mistakes_name_the_setting_and_change_nothing() {
        for (name, value, word) in [
            ("num.partitions", "0", "from 1 to 100000"),
            ("num.partitions", "many", "whole number"),
            ("auto.create.topics.enable", "yes", "true or false"),
            ("log.retention.ms", "-2", "retention.ms"),
            ("num.partition", "3", "num.partition"),
        ] {
            let mut options = BrokerOptions::default();
            let error = options.set(name, value).unwrap_err().to_string();
            assert!(error.contains(word), "{name}={value}: {error}");
            assert_eq!(options.partitions, 1);
            assert!(options.topic_defaults.is_empty());
        }
    }
}
