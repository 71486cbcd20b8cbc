//! Faults on request: what happens to the n-th request of a kind.
//!
//! Tests put rules here; the server asks before and after it handles each request. Without rules this costs one
//! relaxed load per request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_wire::{ApiKey, ErrorCode};
use parking_lot::Mutex;

/// What to do to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Handle it after this long.
    Delay(Duration),
    /// Never handle it and never answer; the connection stays open.
    Drop,
    /// Close the connection without handling it.
    Disconnect,
    /// Handle it, then close the connection instead of answering.
    LoseReply,
    /// Handle it, then send only the first so many bytes of the answer and close the connection.
    TearReply(usize),
    /// Do not handle it; answer with this error in every place an error can stand.
    Answer(ErrorCode),
}

impl Fault {
    /// What kind of fault it is, in a word or two.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Drop => "drop",
            Self::Disconnect => "disconnect",
            Self::LoseReply => "lose reply",
            Self::TearReply(_) => "tear reply",
            Self::Answer(_) => "answer",
        }
    }
}

/// Which requests a fault is for.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The kind of request.
    pub api: ApiKey,
    /// Only those that this node gets; `None` for all nodes.
    pub node: Option<i32>,
    /// How many matching requests pass before the first that is hit.
    pub skip: u64,
    /// How many are hit.
    pub times: u64,
    /// What happens to them.
    pub fault: Fault,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Script {
    any: AtomicBool,
    rules: Mutex<Vec<Rule>>,
    /// How often each kind of fault struck, by its name.
    struck: Mutex<BTreeMap<&'static str, u64>>,
}

impl Script {
    pub(crate) fn add(&self, rule: Rule) {
        self.rules.lock().push(rule);
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.rules.lock().clear();
        self.any.store(false, Ordering::Release);
    }

    /// The fault for a request of this kind that has just come in at `node`, counting it.
    pub(crate) fn fault(&self, api: ApiKey, node: i32) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut rules = self.rules.lock();
        let rule = rules.iter_mut().find(|rule| {
            rule.api == api && rule.node.is_none_or(|id| id == node) && rule.times > 0
        })?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        let fault = rule.fault.clone();
        *self.struck.lock().entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    pub(crate) fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.struck.lock().clone()
    }
}
