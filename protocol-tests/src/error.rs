//! Why something did not work, and whether a test may be skipped for it.

use std::io::Write as _;

/// What kept the harness from doing what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine lacks something. Tests skip, or fail under `OTTLA_REQUIRE_KAFKA=1`.
    #[error("{what}; {remedy}")]
    Missing {
        /// What is not there.
        what: String,
        /// What to install or set.
        remedy: String,
    },
    /// Everything needed is there, and it did not work: always a failure.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub(crate) fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Missing {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Self {
        Self::Failed(format!("{doing}: {error}"))
    }
}

/// The value, or `None` after saying on standard error why this test is skipped.
///
/// # Panics
///
/// When something failed that the machine does have, and, under `OTTLA_REQUIRE_KAFKA=1`, when
/// something is missing.
pub fn or_skip<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Missing { what, remedy }) if !required() => {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // Not `eprintln!`: the test runner would capture it, and a skip must be seen.
            let _ = writeln!(std::io::stderr(), "skipped {test}: {what}; {remedy}");
            None
        }
        Err(error @ Error::Missing { .. }) => {
            panic!("{error} (OTTLA_REQUIRE_KAFKA is set, so this is a failure, not a skip)")
        }
        Err(error) => panic!("{error}"),
    }
}

fn required() -> bool {
    std::env::var("OTTLA_REQUIRE_KAFKA").is_ok_and(|value| !matches!(&*value, "" | "0"))
}
