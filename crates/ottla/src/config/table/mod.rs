//! The one table of settings: every key of Java's and librdkafka's producer, consumer and
//! administration clients, and Ottla's own.
//!
//! A row carries the function that writes its value into the typed settings of the crates below, so
//! what the table claims and what the client does cannot drift apart. Parsing, `-X list` and
//! `docs/configuration.md` all read it.

mod connection;
mod consumer;
mod observing;
mod producer;
mod security;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::key::{Alias, Key};

/// Every key, grouped by what it concerns.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|(_, keys)| keys.iter())
}

/// The groups of keys, with the heading of each.
pub(super) fn groups() -> impl Iterator<Item = (&'static str, &'static [Key])> {
    GROUPS.iter().copied()
}

/// Every name and alias.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    keys().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().map(|a| a.name)))
}

/// The key called `name`, and under which of its names.
pub(super) fn find(name: &str) -> Option<(&'static Key, Alias)> {
    static BY_NAME: LazyLock<HashMap<&'static str, (&'static Key, Alias)>> = LazyLock::new(|| {
        let names = |key: &'static Key| {
            std::iter::once((key.name, (key, Alias::same(key.name)))).chain(
                key.aliases
                    .iter()
                    .map(move |alias| (alias.name, (key, *alias))),
            )
        };
        keys().flat_map(names).collect()
    });
    let found = |name: &str| BY_NAME.get(name).copied();
    found(name).or_else(|| found(name.strip_prefix("topic.")?).filter(|(key, _)| key.per_topic))
}

static GROUPS: [(&str, &[Key]); 5] = [
    ("Connections and metadata", connection::KEYS),
    ("Security", security::KEYS),
    ("Producer", producer::KEYS),
    ("Consumer", consumer::KEYS),
    ("Logs, metrics, callbacks and plugins", observing::KEYS),
];

#[cfg(test)]
mod tests;
