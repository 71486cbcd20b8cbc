//! Settings from environment variables.
//!
//! `OTTLA_BOOTSTRAP` (or `OTTLA_BOOTSTRAP_SERVERS`) is `bootstrap.servers`. Every other key is
//! `OTTLA_CONFIG_` and its name in capitals, with underscores for its dots: `linger.ms` is
//! `OTTLA_CONFIG_LINGER_MS`. Other variables that begin with `OTTLA_` belong to tools and tests, and
//! are left alone.

use super::table;

/// Where a variable's value goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A setting under this name.
    Key(&'static str),
    /// Meant as a setting, and unknown; the name to look for similar ones.
    Unknown(String),
    /// No setting.
    Other,
}

/// What the environment variable called `name` sets.
pub(super) fn meaning(name: &str) -> Meaning {
    if matches!(name, "OTTLA_BOOTSTRAP" | "OTTLA_BOOTSTRAP_SERVERS") {
        return Meaning::Key("bootstrap.servers");
    }
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Meaning::Other;
    };
    match table::names().find(|key| variable(key) == name) {
        Some(key) => Meaning::Key(key),
        None => Meaning::Unknown(rest.to_ascii_lowercase().replace('_', ".")),
    }
}

/// The environment variable of the key called `name`.
pub(super) fn variable(name: &str) -> String {
    format!(
        "{PREFIX}{}",
        name.to_ascii_uppercase().replace(['.', '-'], "_")
    )
}

const PREFIX: &str = "OTTLA_CONFIG_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_mean_keys() {
        assert_eq!(
            meaning("OTTLA_BOOTSTRAP"),
            Meaning::Key("bootstrap.servers")
        );
        assert_eq!(meaning("OTTLA_CONFIG_LINGER_MS"), Meaning::Key("linger.ms"));
        assert_eq!(
            meaning("OTTLA_CONFIG_QUEUE_BUFFERING_MAX_MS"),
            Meaning::Key("queue.buffering.max.ms")
        );
        assert_eq!(
            meaning("OTTLA_CONFIG_LINGRE_MS"),
            Meaning::Unknown("lingre.ms".into())
        );
        assert_eq!(meaning("OTTLA_REQUIRE_KAFKA"), Meaning::Other);
        assert_eq!(meaning("PATH"), Meaning::Other);
    }
}
