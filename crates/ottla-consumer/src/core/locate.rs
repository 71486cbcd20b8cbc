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
    /// Which one about this partition.
    pub(crate) number: u64,
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
            partition.asked += 1;
            questions.push(Question {
                token: partition.token,
                name: partition.name.clone(),
                what,
                number: partition.asked,
            });
        }
        questions
    }

    /// When a question that waits out a pause is due. One for a leader that there is not waits for news of one.
    pub(crate) fn next_question(&self) -> Option<Instant> {
        let partitions = self.unlocated.iter().filter_map(|&slot| self.at(slot));
        let may_ask = partitions.filter(|p| {
            let coordinators = matches!(p.phase, Phase::Locating(Offset::Committed));
            !p.asking && (coordinators || p.leader.is_some())
        });
        may_ask.filter_map(|p| p.retry_at).min()
    }

    /// The answer to a question.
    pub(crate) fn handle_truth(&mut self, question: &Question, truth: Truth, now: Instant) {
        let slot = question.token.slot;
        let Some(partition) = self.current(question.token) else {
            return;
        };
        if !partition.asking || partition.asked != question.number {
            // It was asked of a leader that is none any more.
            return;
        }
        partition.asking = false;
        let asked = match question.what {
            Asked::Place { leader, .. } | Asked::EndOfEpoch { leader, .. } => Some(leader.epoch),
            Asked::Committed => None,
        };
        match (partition.phase, truth) {
            (_, Truth::Retry) => return self.retry_later(slot, now),
            // Some brokers say -1 for what they do not know; no log has it.
            (_, Truth::At(position)) if position.offset < 0 => return self.retry_later(slot, now),
            (Phase::Locating(_), Truth::At(position)) => {
                partition.settle(position);
                partition.agrees = asked;
                if partition.is_doubtful(partition.leader) {
                    partition.phase = Phase::Validating;
                }
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
            (Phase::Validating, Truth::EpochEnd(end)) => return self.validate(slot, end, asked),
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

    /// `end` is where the leader's log of our epoch ends: what we read beyond it is not in the log. `by`: that leader's epoch.
    fn validate(&mut self, slot: u32, end: Option<Position>, by: Option<i32>) {
        let reset = self.config.reset;
        // It may be in the middle of a batch.
        self.sync_lease(slot);
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        partition.phase = Phase::Fetching;
        partition.agrees = by;
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
                    partition.agrees = by;
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
