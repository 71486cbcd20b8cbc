//! Settings by name: Java's and librdkafka's keys from code, properties files and the environment.
//!
//! Owns the table of keys and the parsing of their values. Never connects to anything; what it
//! parsed goes as typed settings to the crates that do.

mod environment;
mod error;
mod key;
mod properties;
mod settings;
mod suggest;
mod table;
mod topic;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ottla_consumer::{ConsumerConfig, ShareConsumerConfig};
use ottla_net::ClusterConfig;
use ottla_producer::ProducerConfig;

pub use self::error::{ConfigError, ConfigWarning, Origin};
pub use self::key::{Alias, Choice, Importance, Key, Kind, Scope, Status};
pub(crate) use self::settings::Settings;

use self::environment::Meaning;
use self::value::{Invalid, Value};

/// The settings of a client, by the names that Java's clients and librdkafka give them.
///
/// Each value is checked as it is set, so an error points at its place. A later setting of the same
/// key, under whichever of its names, replaces the earlier one. `docs/configuration.md` lists all
/// keys; so does [`keys`].
///
/// ```
/// use ottla::Config;
///
/// # fn main() -> Result<(), ottla::ConfigError> {
/// let mut config = Config::new();
/// config.set("bootstrap.servers", "localhost:9092")?.set("linger.ms", 20)?;
/// config.load_properties("acks = all\ncompression.type = zstd", "inline")?;
/// assert_eq!(config.get("queue.buffering.max.ms").as_deref(), Some("20"));
///
/// let error = config.set("bootstrap.server", "localhost").unwrap_err();
/// assert!(error.to_string().contains("did you mean `bootstrap.servers`?"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Config {
    entries: Entries,
    /// By topic, what differs for it.
    topics: BTreeMap<String, Entries>,
}

/// By the key's own name.
type Entries = BTreeMap<&'static str, Entry>;

#[derive(Clone)]
struct Entry {
    key: &'static Key,
    /// The name it was set under.
    written: Alias,
    text: String,
    value: Value,
    origin: Origin,
}

impl Config {
    /// No settings: the defaults hold.
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets one key.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key, a value out of its range, a key or value that is not
    /// implemented yet, and a key that makes no sense in this client. The config is unchanged then.
    pub fn set(
        &mut self,
        key: impl AsRef<str>,
        value: impl ToString,
    ) -> Result<&mut Config, ConfigError> {
        self.set_from(key, value, Origin::Code)
    }

    /// Sets one key, and says where the setting came from for the sake of error messages.
    ///
    /// # Errors
    /// As [`Config::set`].
    pub fn set_from(
        &mut self,
        key: impl AsRef<str>,
        value: impl ToString,
        origin: Origin,
    ) -> Result<&mut Config, ConfigError> {
        let entry = Self::parse(key.as_ref(), value.to_string(), origin)?;
        self.entries.insert(entry.key.name, entry);
        Ok(self)
    }

    /// Sets one key for one topic of a producer's, instead of what holds for the others: `acks`, `compression.type`,
    /// `compression.level`, `delivery.timeout.ms` or `partitioner`, under any of their names.
    ///
    /// # Errors
    /// As [`Config::set`], and for a key that does not differ by topic.
    pub fn set_for_topic(
        &mut self,
        topic: impl Into<String>,
        key: impl AsRef<str>,
        value: impl ToString,
    ) -> Result<&mut Config, ConfigError> {
        let entry = Self::parse(key.as_ref(), value.to_string(), Origin::Code)?;
        if !topic::KEYS.contains(&entry.key.name) {
            return Err(ConfigError::Refused {
                key: entry.written.name,
                why: topic::WHY_NOT,
                origin: entry.origin,
            });
        }
        let own = self.topics.entry(topic.into()).or_default();
        own.insert(entry.key.name, entry);
        Ok(self)
    }

    fn parse(name: &str, text: String, origin: Origin) -> Result<Entry, ConfigError> {
        let name = name.trim();
        let Some((key, written)) = table::find(name) else {
            return Err(ConfigError::UnknownKey {
                key: shortened(name),
                suggestion: suggest::nearest(name),
                origin,
            });
        };
        if let Status::Refused(why) = key.status {
            return Err(ConfigError::Refused {
                key: written.name,
                why,
                origin,
            });
        }
        let value = match key.kind.parse(&text, written.unit) {
            Ok(value) => value,
            Err(Invalid::Planned(_)) => return Err(not_implemented(key, written, &text, origin)),
            Err(invalid) => {
                return Err(ConfigError::InvalidValue {
                    key: written.name,
                    value: shown(key, &text),
                    expected: expected(key, written, &invalid),
                    origin,
                });
            }
        };
        if key.status == Status::Planned && !is_default(key, &text, &value) {
            return Err(not_implemented(key, written, &text, origin));
        }
        Ok(Entry {
            key,
            written,
            text,
            value,
            origin,
        })
    }

    /// Takes a key back, so that its default holds again. An unknown key is none that was set.
    pub fn unset(&mut self, key: impl AsRef<str>) -> &mut Config {
        if let Some((key, _)) = table::find(key.as_ref().trim()) {
            self.entries.remove(key.name);
        }
        self
    }

    /// Whether a key was set, under any of its names.
    pub fn is_set(&self, key: impl AsRef<str>) -> bool {
        table::find(key.as_ref().trim()).is_some_and(|(key, _)| self.entries.contains_key(key.name))
    }

    /// The value in force, as text: as it was set, else the default. `None` for a key that is
    /// neither set nor has a default, and for an unknown one.
    ///
    /// Secrets come in the clear, so take care where they go. A value set under an alias with another
    /// unit comes in the unit it was set in.
    pub fn get(&self, key: impl AsRef<str>) -> Option<String> {
        let (key, _) = table::find(key.as_ref().trim())?;
        match self.entries.get(key.name) {
            Some(entry) => Some(entry.text.clone()),
            None => key.default.map(str::to_owned),
        }
    }

    /// Sets everything that a Java `.properties` file holds: `key=value` lines in UTF-8, with
    /// comments, escapes and continued lines as Java has them.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or for its first bad line, with its number.
    pub fn load_properties_file(
        &mut self,
        path: impl AsRef<Path>,
    ) -> Result<&mut Config, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        self.load_properties(&text, path)
    }

    /// As [`Config::load_properties_file`], with the text of the file and a name for messages.
    ///
    /// # Errors
    /// [`ConfigError`] for the first bad line, with its number.
    pub fn load_properties(
        &mut self,
        text: &str,
        name: impl AsRef<Path>,
    ) -> Result<&mut Config, ConfigError> {
        let path: Arc<Path> = name.as_ref().into();
        let at = |line| Origin::File {
            path: path.clone(),
            line,
        };
        let properties = properties::parse(text).map_err(|error| ConfigError::Syntax {
            what: error.what,
            origin: at(error.line),
        })?;
        for property in properties {
            self.set_from(property.key, property.value, at(property.line))?;
        }
        Ok(self)
    }

    /// Sets what the environment says: `OTTLA_BOOTSTRAP` for `bootstrap.servers`, and
    /// `OTTLA_CONFIG_LINGER_MS` for `linger.ms`, likewise for every other key.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn load_environment(&mut self) -> Result<&mut Config, ConfigError> {
        self.load_environment_from(std::env::vars_os())
    }

    /// As [`Config::load_environment`], from variables of your own.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn load_environment_from<I>(&mut self, variables: I) -> Result<&mut Config, ConfigError>
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        // The order of an environment means nothing; the outcome and the first error should not
        // depend on it.
        let mut variables: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        variables.sort();
        for (name, value) in variables {
            let key = match environment::meaning(&name) {
                Meaning::Other => continue,
                Meaning::Key(key) => key,
                Meaning::Unknown(key) => {
                    return Err(ConfigError::UnknownKey {
                        suggestion: suggest::nearest(&key),
                        key,
                        origin: Origin::Environment(name),
                    });
                }
            };
            let origin = Origin::Environment(name);
            let Ok(value) = value.into_string() else {
                let what = format!("the value of `{key}` is not UTF-8 text");
                return Err(ConfigError::Syntax { what, origin });
            };
            self.set_from(key, value, origin)?;
        }
        Ok(self)
    }

    /// Takes over everything that is set in `other`.
    pub fn merge(&mut self, other: Config) -> &mut Config {
        self.entries.extend(other.entries);
        for (topic, entries) in other.topics {
            self.topics.entry(topic).or_default().extend(entries);
        }
        self
    }

    /// What was set and has no effect, and why.
    pub fn warnings(&self) -> Vec<ConfigWarning> {
        let entries = self.topics.values().flat_map(BTreeMap::values);
        let entries = self.entries.values().chain(entries);
        let warning = |entry: &Entry| match entry.key.status {
            Status::Ignored(why) => Some(ConfigWarning {
                key: entry.written.name,
                why,
                origin: entry.origin.clone(),
            }),
            _ => None,
        };
        entries.filter_map(warning).collect()
    }

    /// What these settings mean for connections and metadata.
    pub fn cluster_config(&self) -> ClusterConfig {
        self.settings().cluster
    }

    /// What these settings mean for a producer.
    pub fn producer_config(&self) -> ProducerConfig {
        self.settings().producer
    }

    /// What these settings mean for a consumer.
    pub fn consumer_config(&self) -> ConsumerConfig {
        self.settings().consumer
    }

    /// What these settings mean for a share consumer.
    pub fn share_consumer_config(&self) -> ShareConsumerConfig {
        self.settings().share_consumer()
    }

    /// The first setting that only members of classic groups have a say in. That one has its default does not tell whether
    /// it was named.
    pub(crate) fn set_for_members(&self) -> Option<Named> {
        FOR_MEMBERS.iter().find_map(|(key, why)| {
            let entry = self.entries.get(key)?;
            Some(Named {
                key: entry.written.name,
                why,
                origin: entry.origin.clone(),
            })
        })
    }

    pub(crate) fn settings(&self) -> Settings {
        let apply_all = |settings: &mut Settings, entries: &Entries| {
            for entry in entries.values() {
                if let Some(apply) = entry.key.apply {
                    apply(settings, &entry.value);
                }
            }
        };
        let mut settings = Settings::default();
        apply_all(&mut settings, &self.entries);
        let mut settings = settings.settled();
        for (topic, entries) in &self.topics {
            let mut own = settings.clone();
            apply_all(&mut own, entries);
            let is_set = |key: &str| entries.contains_key(key);
            let own = topic::differing(&own.settled().producer, is_set);
            settings.producer.topics.insert(topic.clone(), own);
        }
        settings
    }
}

/// A setting that was named, and why it cannot be in some use of it.
#[derive(Debug)]
pub(crate) struct Named {
    key: &'static str,
    why: &'static str,
    origin: Origin,
}

impl Named {
    pub(crate) fn refused(&self) -> ConfigError {
        ConfigError::Refused {
            key: self.key,
            why: self.why,
            origin: self.origin.clone(),
        }
    }
}

/// Lists what is set, as properties, secrets hidden.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries.values() {
            writeln!(
                f,
                "{}={}",
                entry.written.name,
                shown(entry.key, &entry.text)
            )?;
        }
        for (topic, entries) in &self.topics {
            for entry in entries.values() {
                let (name, text) = (entry.written.name, shown(entry.key, &entry.text));
                writeln!(f, "topic {topic}: {name}={text}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.entries
                    .values()
                    .map(|e| (e.written.name, shown(e.key, &e.text))),
            )
            .finish()
    }
}

/// Every key there is, grouped by what it concerns.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    table::keys()
}

/// The groups of [`keys`], each with its heading.
pub fn key_groups() -> impl Iterator<Item = (&'static str, &'static [Key])> {
    table::groups()
}

/// The environment variable that sets the key called `name`.
pub fn environment_variable(name: &str) -> String {
    match name {
        "bootstrap.servers" => "OTTLA_BOOTSTRAP".into(),
        name => environment::variable(name),
    }
}

fn not_implemented(key: &Key, written: Alias, text: &str, origin: Origin) -> ConfigError {
    ConfigError::NotImplemented {
        key: written.name,
        value: shown(key, text),
        default: key.default.map(str::to_owned),
        origin,
    }
}

/// Whether setting a key that is not built to this changes nothing.
fn is_default(key: &Key, text: &str, value: &Value) -> bool {
    match key.default {
        Some(default) => key.kind.parse(default, 1).as_ref() == Ok(value),
        None => text.is_empty(),
    }
}

fn expected(key: &Key, written: Alias, invalid: &Invalid) -> String {
    let range = match key.kind {
        Kind::Bytes { min, max } if written.unit != 1 => {
            let (min, max) = (min.div_euclid(written.unit).max(1), max / written.unit);
            format!("{min} to {max}, in units of {} bytes", written.unit)
        }
        kind => kind.range(),
    };
    match invalid {
        Invalid::Because(reason) => format!("{range} ({reason})"),
        _ => range,
    }
}

fn shown(key: &Key, text: &str) -> String {
    if key.secret {
        "[hidden]".into()
    } else {
        shortened(text)
    }
}

/// Enough of a text to recognise it in a message.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What members say only where they divide the partitions themselves, and why not otherwise.
const FOR_MEMBERS: [(&str, &str); 3] = [
    (
        "session.timeout.ms",
        "with group.protocol=consumer the broker's group.consumer.session.timeout.ms holds; leave it out",
    ),
    (
        "heartbeat.interval.ms",
        "with group.protocol=consumer the broker's group.consumer.heartbeat.interval.ms holds; leave it out",
    ),
    (
        "partition.assignment.strategy",
        "with group.protocol=consumer the brokers divide the partitions; leave it out, and set \
         group.remote.assignor to choose among their assignors",
    ),
];

/// How much of a value a message repeats, in characters.
const TEXT_SHOWN_MAX: usize = 120;

#[cfg(test)]
mod tests;
