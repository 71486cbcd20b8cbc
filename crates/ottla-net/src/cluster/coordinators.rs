//! Who coordinates a group, a transaction or a share group.
//!
//! A plain state machine: callers' wishes, answers and the time go in; look-ups and outcomes come out.
//! All who wish for the same coordinator share one look-up, and one who gives up takes it from nobody.

use std::collections::BTreeMap;

use ottla_wire::messages::find_coordinator::FindCoordinatorResponse;
use ottla_wire::{ErrorCode, Str};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::watch;

/// What a coordinator is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum CoordinatorKind {
    /// The coordinator of a consumer group; the key is the group's id.
    Group = 0,
    /// The coordinator of a transaction; the key is the transactional id.
    Transaction = 1,
    /// The coordinator of a share partition; the key is `group:topic-id:partition`.
    Share = 2,
}

impl CoordinatorKind {
    const ALL: [Self; 3] = [Self::Group, Self::Transaction, Self::Share];
}

/// The coordinators known and looked for.
#[derive(Debug)]
pub(super) struct Coordinators {
    retry: Backoff,
    entries: BTreeMap<(CoordinatorKind, Str), Entry>,
}

#[derive(Debug)]
enum Entry {
    Known(i32),
    Wanted(Search),
}

#[derive(Debug)]
struct Search {
    /// Who wait, and what came of the attempts so far.
    found: watch::Sender<Sighting>,
    in_flight: bool,
    failures: u32,
    next_at: Instant,
}

/// What a look-up has found so far.
#[derive(Debug, Clone)]
pub(super) enum Sighting {
    /// Nothing yet; with what was last wrong.
    Looking(Option<Error>),
    /// The coordinator.
    Found(i32),
    /// An error that trying again will not mend.
    Refused(Error),
}

/// One FindCoordinator request to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) kind: CoordinatorKind,
    /// Ordered, not empty.
    pub(super) keys: Vec<Str>,
}

/// An answer about one key.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) key: &'a str,
    pub(super) node: i32,
    pub(super) host: &'a str,
    pub(super) port: i32,
    code: ErrorCode,
    message: Option<&'a str>,
}

impl Coordinators {
    pub(super) fn new(retry: Backoff) -> Self {
        Self {
            retry,
            entries: BTreeMap::new(),
        }
    }

    /// The coordinator if it is known, else where it will be told.
    pub(super) fn want(
        &mut self,
        now: Instant,
        kind: CoordinatorKind,
        key: &str,
    ) -> Result<i32, watch::Receiver<Sighting>> {
        // One allocation per look-up; the answer is kept for as long as it holds.
        let id = (kind, Str::from(key.to_owned()));
        let entry = self.entries.entry(id).or_insert_with(|| {
            Entry::Wanted(Search {
                found: watch::Sender::new(Sighting::Looking(None)),
                in_flight: false,
                failures: 0,
                next_at: now,
            })
        });
        match entry {
            Entry::Known(node) => Ok(*node),
            Entry::Wanted(search) => Err(search.found.subscribe()),
        }
    }

    /// Forgets a coordinator that said it is none, or that cannot be reached; unless another one is
    /// known by now.
    pub(super) fn forget(&mut self, kind: CoordinatorKind, key: &str, node: i32) {
        let id = (kind, Str::from(key.to_owned()));
        if matches!(self.entries.get(&id), Some(Entry::Known(known)) if *known == node) {
            self.entries.remove(&id);
        }
    }

    /// The look-ups to make now, one for each kind. What comes of them must be told with
    /// [`Coordinators::handle_answer`] or [`Coordinators::handle_failure`] for each key.
    ///
    /// A search nobody waits for any more is given up here.
    pub(super) fn poll_lookups(&mut self, now: Instant) -> Vec<Lookup> {
        self.entries.retain(|_, entry| match entry {
            Entry::Known(_) => true,
            Entry::Wanted(search) => search.in_flight || search.found.receiver_count() > 0,
        });
        let mut lookups = Vec::new();
        for kind in CoordinatorKind::ALL {
            let mut keys = Vec::new();
            for ((of, key), entry) in &mut self.entries {
                if let Entry::Wanted(search) = entry
                    && *of == kind
                    && !search.in_flight
                    && search.next_at <= now
                {
                    search.in_flight = true;
                    keys.push(key.clone());
                }
            }
            if !keys.is_empty() {
                lookups.push(Lookup { kind, keys });
            }
        }
        lookups
    }

    /// When [`Coordinators::poll_lookups`] has something to say.
    pub(super) fn next_lookup_at(&self) -> Option<Instant> {
        self.entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Wanted(search) if !search.in_flight => Some(search.next_at),
                _ => None,
            })
            .min()
    }

    /// Takes the answer about one key in.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        kind: CoordinatorKind,
        answer: &Answer<'_>,
        random: f64,
    ) {
        let id = (kind, Str::from(answer.key.to_owned()));
        let Some(Entry::Wanted(search)) = self.entries.get_mut(&id) else {
            return;
        };
        if answer.code.is_ok() && answer.node >= 0 {
            search.found.send_replace(Sighting::Found(answer.node));
            self.entries.insert(id, Entry::Known(answer.node));
            return;
        }
        let error = Error::Coordinator {
            key: answer.key.to_owned(),
            code: if answer.code.is_ok() {
                ErrorCode::COORDINATOR_NOT_AVAILABLE
            } else {
                answer.code
            },
            message: answer.message.map(str::to_owned),
        };
        self.fail(now, id, error, random);
    }

    /// No broker answered about these keys, for this reason; or the answer left some out, for none.
    pub(super) fn handle_failure(
        &mut self,
        now: Instant,
        lookup: &Lookup,
        error: Option<&Error>,
        random: f64,
    ) {
        for key in &lookup.keys {
            let id = (lookup.kind, key.clone());
            if let Some(Entry::Wanted(search)) = self.entries.get(&id)
                && search.in_flight
            {
                let error = error.cloned().unwrap_or_else(|| Error::Coordinator {
                    key: key.to_string(),
                    code: ErrorCode::COORDINATOR_NOT_AVAILABLE,
                    message: None,
                });
                self.fail(now, id, error, random);
            }
        }
    }

    /// One attempt failed: another one later, or the end of the search.
    fn fail(&mut self, now: Instant, id: (CoordinatorKind, Str), error: Error, random: f64) {
        let Some(Entry::Wanted(search)) = self.entries.get_mut(&id) else {
            return;
        };
        if error.is_retriable() {
            search.found.send_replace(Sighting::Looking(Some(error)));
            search.in_flight = false;
            search.failures = search.failures.saturating_add(1);
            search.next_at = now + self.retry.delay(search.failures, random);
        } else {
            search.found.send_replace(Sighting::Refused(error));
            self.entries.remove(&id);
        }
    }
}

impl<'a> Answer<'a> {
    /// The answers of a response: one per key where keys are asked for together (version 4 on), else
    /// the one about `only`.
    pub(super) fn all_of(response: &'a FindCoordinatorResponse, only: &'a str) -> Vec<Self> {
        if response.coordinators.is_empty() {
            return vec![Self {
                key: only,
                node: response.node_id,
                host: &response.host,
                port: response.port,
                code: response.error_code,
                message: response.error_message.as_deref(),
            }];
        }
        response
            .coordinators
            .iter()
            .map(|coordinator| Self {
                key: &coordinator.key,
                node: coordinator.node_id,
                host: &coordinator.host,
                port: coordinator.port,
                code: coordinator.error_code,
                message: coordinator.error_message.as_deref(),
            })
            .collect()
    }

    /// Whether the answer names a coordinator.
    pub(super) fn is_found(&self) -> bool {
        self.code.is_ok() && self.node >= 0
    }
}

#[cfg(test)]
mod tests;
