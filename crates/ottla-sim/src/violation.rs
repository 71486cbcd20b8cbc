//! A broken promise, whoever judges.

use std::fmt;

/// What the judges of all scenarios return; `R` are a judge's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation<R> {
    pub(crate) rule: R,
    /// Which event broke it.
    pub(crate) index: usize,
    pub(crate) problem: String,
}

impl<R: fmt::Debug> Violation<R> {
    /// Which event broke it, and the rule and the problem in words.
    pub(crate) fn told(self) -> (usize, String) {
        (self.index, self.to_string())
    }
}

impl<R: fmt::Debug> fmt::Display for Violation<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.problem)
    }
}
