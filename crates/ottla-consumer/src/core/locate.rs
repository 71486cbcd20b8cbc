//! Finding positions out: the committed offset, the ends of a log, the offset of a time; and checking
//! them when the leader changed (KIP-320).
//!
//! The core says which questions are open, the shell asks the right broker and brings the answers.

use std::time::Instant;

use super::{Core, Leader, Offset, Phase, Position, Token, reset_place};
use crate::{Error, OffsetReset, TopicPartition};

/// A question about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) token: Token,
    pub(crate) name: TopicPartition,
    pub(crate) what: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The offset the group committed. For the coordinator.
    Committed,
    /// The offset of a place that is none of `Committed` and `At`. For the leader.
    Place { place: Offset, leader: Leader },
    /// Where the log of `position`'s epoch ends. For the leader.
    EndOfEpoch { position: Position, leader: Leader },
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    /// The place has this offset.
    At(Position),
    /// The group has no committed offset.
    NotCommitted,
    /// The end of the epoch that was asked about, or of the last one before it; `None`: the leader
    /// does not know.
    EpochEnd(Option<Position>),
    /// Ask again after a pause.
    Retry,
}

impl<D> Core<D> {
    /// The questions that are due; each is then waited for. `group`: whether there is one to ask.
    pub(crate) fn take_questions(&mut self, group: bool, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        for slot in self.unlocated.clone() {
            let Some(partition) = self.at_mut(slot) else {
                continue;
            };
            if partition.asking || partition.retry_at.is_some_and(|at| now < at) {
                continue;
            }
            let what = match (partition.phase, partition.leader) {
                (Phase::Locating(Offset::Committed), _) if group => Asked::Committed,
                (Phase::Locating(Offset::Committed), _) => {
                    self.not_committed(slot);
                    continue;
                }
                (Phase::Locating(place), Some(leader)) => Asked::Place { place, leader },
                (Phase::Validating, Some(leader)) => Asked::EndOfEpoch {
                    position: partition.fetched,
                    leader,
                },
                _ => continue,
            };
            partition.asking = true;
            let (token, name) = (partition.token, partition.name.clone());
            questions.push(Question { token, name, what });
        }
        questions
    }

    /// When a question that waits out a pause is due.
    pub(crate) fn next_question(&self) -> Option<Instant> {
        self.unlocated
            .iter()
            .filter_map(|&slot| self.at(slot).filter(|p| !p.asking).and_then(|p| p.retry_at))
            .min()
    }

    /// The answer to a question.
    pub(crate) fn handle_truth(&mut self, token: Token, truth: Truth, now: Instant) {
        let slot = token.slot;
        let Some(partition) = self.current(token) else {
            return;
        };
        partition.asking = false;
        match (partition.phase, truth) {
            (_, Truth::Retry) => return self.retry_later(slot, now),
            // Some brokers say -1 for what they do not know; no log has it.
            (_, Truth::At(position)) if position.offset < 0 => return self.retry_later(slot, now),
            (Phase::Locating(_), Truth::At(position)) => {
                partition.settle(position);
                let resets = partition.resets;
                if resets > 1 {
                    // The broker contradicts itself: not at the speed of the network.
                    let at = now + self.backoff(resets - 1);
                    if let Some(partition) = self.at_mut(slot) {
                        partition.retry_at = Some(at);
                    }
                }
            }
            (Phase::Locating(_), Truth::NotCommitted) => return self.not_committed(slot),
            (Phase::Validating, Truth::EpochEnd(end)) => return self.validate(slot, end),
            // The phase moved on without a new token: the question is asked anew if it still stands.
            _ => {}
        }
        self.note_phase(slot);
        self.note_ready(slot);
        self.note_wanted(slot);
        self.effects.application = true;
    }

    /// There is nothing to go by but the policy.
    pub(super) fn not_committed(&mut self, slot: u32) {
        let Some(partition) = self.at(slot) else {
            return;
        };
        let name = partition.name.clone();
        if matches!(self.config.reset, OffsetReset::Fail) {
            self.stop(slot);
            self.report(Error::NoOffset { partition: name });
            return;
        }
        self.restart(slot, reset_place(self.config.reset));
    }

    /// `end` is where the new leader's log of our epoch ends: what we read beyond it is not in the log.
    fn validate(&mut self, slot: u32, end: Option<Position>) {
        let reset = self.config.reset;
        // It may be in the middle of a batch.
        self.sync_lease(slot);
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        partition.phase = Phase::Fetching;
        partition.failures = 0;
        let (name, reached) = (partition.name.clone(), partition.fetched);
        match end {
            Some(end) if end.offset >= reached.offset => {}
            // Java goes back to where the logs part, unless the application wants to decide.
            Some(end) if !matches!(reset, OffsetReset::Fail) => {
                tracing::warn!(partition = %name, from = reached.offset, to = end.offset,
                    "the log was truncated: going back");
                let consumed = partition.consumed;
                let back = if consumed.offset <= end.offset {
                    consumed
                } else {
                    end
                };
                self.restart(slot, Offset::At(back.offset));
                if let Some(partition) = self.at_mut(slot) {
                    partition.settle(back);
                }
            }
            Some(end) => {
                let offset = partition.consumed.offset;
                self.stop(slot);
                self.report(Error::LogTruncated {
                    partition: name,
                    offset,
                    diverged: end.offset,
                });
            }
            // It knows neither our epoch nor an older one.
            None => self.reset(slot),
        }
        self.note_phase(slot);
        self.note_ready(slot);
        self.note_wanted(slot);
    }
}
