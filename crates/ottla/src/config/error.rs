//! What can be wrong with a setting, and where it was set.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A setting that cannot be used: which, where it was set, and what would be right.
///
/// The value of a secret setting is never part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such key.
    #[error("{origin}: unknown setting `{key}`{}", suggested(*suggestion))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// The known key with the most similar name, if one is similar enough to be meant.
        suggestion: Option<&'static str>,
        /// Where it was set.
        origin: Origin,
    },
    /// Not a value of the key's type and range.
    #[error("{origin}: `{key}` cannot be `{value}`: expected {expected}")]
    InvalidValue {
        /// The key as it was written.
        key: &'static str,
        /// The value, or `[hidden]` for a secret one.
        value: String,
        /// The values that are accepted.
        expected: String,
        /// Where it was set.
        origin: Origin,
    },
    /// A known key, or a known value of it, that this version does not implement.
    #[error(
        "{origin}: `{key}` = `{value}` is not implemented in this version of Ottla; {}",
        alternative(default.as_deref())
    )]
    NotImplemented {
        /// The key as it was written.
        key: &'static str,
        /// The value, or `[hidden]` for a secret one.
        value: String,
        /// What is in force when the key is left out, if anything.
        default: Option<String>,
        /// Where it was set.
        origin: Origin,
    },
    /// A key of another client that makes no sense in this one.
    #[error("{origin}: `{key}` cannot be set: {why}")]
    Refused {
        /// The key as it was written.
        key: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
        /// Where it was set.
        origin: Origin,
    },
    /// Each setting is fine, and together they are not.
    #[error("{0}")]
    Conflict(String),
    /// Something that needs a setting without a default, which is not set.
    #[error("`{key}` is not set: {hint}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it is for and how to set it.
        hint: &'static str,
    },
    /// Text that is no list of settings.
    #[error("{origin}: {what}")]
    Syntax {
        /// What is wrong with it.
        what: String,
        /// Where.
        origin: Origin,
    },
    /// A properties file that cannot be read.
    #[error("cannot read the properties file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        cause: io::Error,
    },
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A call in the program.
    Code,
    /// A line of a properties file.
    File {
        /// The file, or the name the text was given.
        path: Arc<Path>,
        /// The line the property starts on, from 1.
        line: u32,
    },
    /// An environment variable.
    Environment(String),
    /// An option of a command line, such as `-X`.
    Option(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Code => write!(f, "configuration"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::Option(option) => write!(f, "option {option}"),
        }
    }
}

/// A setting that was accepted and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigWarning {
    /// The key as it was written.
    pub key: &'static str,
    /// Why it has no effect.
    pub why: &'static str,
    /// Where it was set.
    pub origin: Origin,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: `{}` has no effect: {}",
            self.origin, self.key, self.why
        )
    }
}

fn suggested(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean `{key}`?"),
        None => "; docs/configuration.md lists all settings".into(),
    }
}

fn alternative(default: Option<&str>) -> String {
    match default {
        Some(default) => format!("leave it out or set it to `{default}`"),
        None => "leave it out".into(),
    }
}
