//! What one configuration key is: its names, type, range, default, documentation and how far this
//! version implements it. Rows are written in [`table`](super::table); nothing here holds a value.

use super::settings::Settings;
use super::value::Value;

/// One row of the configuration table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Key {
    /// The name that documentation and messages use; Java's where Java has one.
    pub name: &'static str,
    /// Other names for the same setting, mostly librdkafka's.
    pub aliases: &'static [Alias],
    /// Which part of the client reads it.
    pub scope: Scope,
    /// What values it takes.
    pub kind: Kind,
    /// The value in force when nothing is set, spelled as one would set it; `None` is "not set".
    pub default: Option<&'static str>,
    /// How likely it is that you want to change it.
    pub importance: Importance,
    /// Whether this version obeys it.
    pub status: Status,
    /// The value never appears in `Debug`, `Display` or an error.
    pub secret: bool,
    /// librdkafka calls it a topic property; `topic.NAME` is accepted too, as kcat does.
    pub per_topic: bool,
    /// One paragraph for people.
    pub doc: &'static str,
    /// Writes a parsed value into the typed settings. Present exactly when the key is honoured.
    pub(super) apply: Option<Apply>,
}

/// Writes one parsed value into the settings of the crates below.
pub(super) type Apply = fn(&mut Settings, &Value);

/// Another name for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The other name.
    pub name: &'static str,
    /// The alias counts in units this many times larger than the key's: 1024 for a KiB alias of a
    /// byte key.
    pub unit: i64,
}

/// Which part of the client reads a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Connections and metadata, shared by producers, consumers and administration.
    Client,
    /// Producers.
    Producer,
    /// Consumers.
    Consumer,
}

/// How likely it is that you want to change a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Importance {
    /// Most programs set or at least consider it.
    High,
    /// Worth knowing when tuning.
    Medium,
    /// For special cases.
    Low,
}

/// How far this version obeys a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Does what its documentation says.
    Honoured,
    /// Can be set, and setting it changes nothing but a warning; the text says why.
    Ignored(&'static str),
    /// Not built yet. Only its default value is accepted, anything else is an error.
    Planned,
    /// Setting it is an error; the text says why and what to do instead.
    Refused(&'static str),
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false` (`1`, `0`, `t`, `f`, `yes`, `no`, `on`, `off` in any case).
    Bool,
    /// A whole number in a range.
    Int {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// A number of bytes in a range.
    Bytes {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// Whole milliseconds in a range.
    Millis {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// Milliseconds in a range, fractions allowed (`0.5`).
    FractionalMillis {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// A number with a fraction, in a range.
    Number {
        /// Smallest accepted value.
        min: f64,
        /// Largest accepted value.
        max: f64,
    },
    /// Any text.
    Text,
    /// A comma-separated list of any text.
    List,
    /// `host:port` addresses, comma separated.
    Servers,
    /// One of a set of names.
    Choice(&'static [Choice]),
    /// A comma-separated list out of a set of names.
    Choices(&'static [Choice]),
    /// `latest`, `earliest`, `none` or `by_duration:` with an ISO-8601 duration.
    OffsetReset,
    /// Something that text cannot carry: a callback, a pointer, a Java class.
    Object,
}

/// One accepted value of a [`Kind::Choice`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The spelling used in documentation.
    pub name: &'static str,
    /// Other spellings, all compared without regard to case.
    pub spellings: &'static [&'static str],
    /// Known, but not built yet: choosing it is an error that says so.
    pub planned: bool,
}

impl Key {
    /// A key that is not built yet, until [`Key::honoured`] or another status says otherwise.
    pub(super) const fn new(
        name: &'static str,
        scope: Scope,
        importance: Importance,
        kind: Kind,
        doc: &'static str,
    ) -> Key {
        Key {
            name,
            aliases: &[],
            scope,
            kind,
            default: None,
            importance,
            status: Status::Planned,
            secret: false,
            per_topic: false,
            doc,
            apply: None,
        }
    }

    pub(super) const fn aliases(mut self, aliases: &'static [Alias]) -> Key {
        self.aliases = aliases;
        self
    }

    pub(super) const fn default(mut self, default: &'static str) -> Key {
        self.default = Some(default);
        self
    }

    pub(super) const fn secret(mut self) -> Key {
        self.secret = true;
        self
    }

    pub(super) const fn per_topic(mut self) -> Key {
        self.per_topic = true;
        self
    }

    pub(super) const fn honoured(mut self, apply: Apply) -> Key {
        self.status = Status::Honoured;
        self.apply = Some(apply);
        self
    }

    pub(super) const fn ignored(mut self, why: &'static str) -> Key {
        self.status = Status::Ignored(why);
        self
    }

    pub(super) const fn refused(mut self, why: &'static str) -> Key {
        self.status = Status::Refused(why);
        self
    }
}

impl Alias {
    /// Another name for the same value.
    pub(super) const fn same(name: &'static str) -> Alias {
        Alias { name, unit: 1 }
    }

    /// Another name that counts in KiB where the key counts in bytes.
    pub(super) const fn kib(name: &'static str) -> Alias {
        Alias { name, unit: 1024 }
    }
}

impl Choice {
    pub(super) const fn of(name: &'static str) -> Choice {
        Choice {
            name,
            spellings: &[],
            planned: false,
        }
    }

    pub(super) const fn also(mut self, spellings: &'static [&'static str]) -> Choice {
        self.spellings = spellings;
        self
    }

    pub(super) const fn planned(mut self) -> Choice {
        self.planned = true;
        self
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.name.eq_ignore_ascii_case(text)
            || self.spellings.iter().any(|s| s.eq_ignore_ascii_case(text))
    }
}

impl Kind {
    /// The accepted values, as documentation and errors state them.
    pub fn range(&self) -> String {
        match self {
            Kind::Bool => "true, false".into(),
            Kind::Int { min, max } => span(*min, *max, ""),
            Kind::Bytes { min, max } => span(*min, *max, " bytes"),
            Kind::Millis { min, max } | Kind::FractionalMillis { min, max } => {
                span(*min, *max, " ms")
            }
            Kind::Number { min, max } => format!("{min} to {max}"),
            Kind::Text => "text".into(),
            Kind::List => "comma-separated list".into(),
            Kind::Servers => "host:port, comma separated".into(),
            Kind::Choice(choices) => names(choices),
            Kind::Choices(choices) => format!("comma-separated list of {}", names(choices)),
            Kind::OffsetReset => "earliest, latest, none, by_duration:PT1H".into(),
            Kind::Object => "not expressible as text".into(),
        }
    }
}

fn span(min: i64, max: i64, unit: &str) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => format!("any whole number{}", unit.replace(' ', " of ")),
        (min, i64::MAX) => format!("{min} or more{unit}"),
        (min, max) => format!("{min} to {max}{unit}"),
    }
}

fn names(choices: &[Choice]) -> String {
    choices
        .iter()
        .map(|c| c.name)
        .collect::<Vec<_>>()
        .join(", ")
}
