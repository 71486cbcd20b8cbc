//! Judges a history: which promise it breaks, if any.
//!
//! A plain struct: events in order go in, the first broken promise comes out. It knows nothing of clients, brokers or
//! clocks beyond what the events say, so each rule is tested by a history made by hand.
//!
//! What the rules lean on:
//! - A reader's next record of a partition is the first one in the log at or behind where it stands. Where it stands is
//!   known exactly, unless it was sent to a moving place (the beginning, the end): then it is a range.
//! - *Done* records are those handed out before the application came for more, committed or closed. Only they may lie
//!   below an offset that a group commits.
//! - The eager protocol does not promise that a member which the coordinator gave up on knows it at once. It promises
//!   that nobody is handed records of a partition in a generation in which it was given to another, and that a member
//!   that was told hands nothing out any more.

mod commits;
mod group;
mod place;
mod reading;
#[cfg(test)]
mod tests;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::commits::GroupOffsets;
use self::group::Group;
use self::place::{Reading, Why};
pub(crate) use self::truth::{Truth, Written};
use crate::history::{Event, Member, Part, Reset, What};

/// A promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What is handed out stands in the log at that place.
    InTheLog,
    /// No record is passed over.
    NothingSkipped,
    /// Within an assignment, nothing comes twice and positions do not go back.
    NothingRepeated,
    /// Reading starts where the group has committed.
    StartsAtCommitted,
    /// After a seek, the next record is the first one there.
    SeekHolds,
    /// Only what was assigned is handed out.
    OnlyAssigned,
    /// Nobody has a partition that another member was given in the same generation, nor is a member confirmed
    /// in a generation that is over.
    OneOwner,
    /// Nothing is handed out by a member that was told to give it up.
    GivenUpWhenTold,
    /// Nothing is handed out of paused partitions.
    PauseHolds,
    /// Nothing is handed out after the end.
    EndHolds,
    /// Only what the application is done with lies below a committed offset.
    CommittedIsDone,
    /// An acknowledged commit stays.
    CommitsStay,
    /// Every call ends in its time.
    CallsEnd,
    /// Whoever waits for records is woken when there are some.
    WakesUp,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    /// Which event broke it.
    pub(crate) index: usize,
    pub(crate) problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.problem)
    }
}

/// Judges a whole history.
///
/// # Errors
/// The first broken promise.
pub(crate) fn check(events: &[Event], truth: &Truth) -> Result<(), Violation> {
    let mut checker = Checker::new(truth);
    for (index, event) in events.iter().enumerate() {
        checker.take(event).map_err(|(rule, problem)| Violation {
            rule,
            index,
            problem,
        })?;
    }
    Ok(())
}

type Verdict = Result<(), (Rule, String)>;

struct Checker<'a> {
    truth: &'a Truth,
    /// First offsets of logs of which something was deleted.
    starts: BTreeMap<Part, i64>,
    members: BTreeMap<Member, Reader>,
    groups: BTreeMap<u8, Group>,
    offsets: BTreeMap<u8, GroupOffsets>,
}

/// One member, or one consumer that takes partitions by hand.
struct Reader {
    group: Option<u8>,
    reset: Reset,
    /// Of the group; -1 for partitions taken by hand.
    generation: i32,
    subscribed: bool,
    readings: BTreeMap<Part, Reading>,
    paused: BTreeSet<Part>,
    /// When it was told to leave its generation, and surely heard it.
    told: Option<u64>,
    /// When it was last told so, whether or not it still waited for the answer.
    last_told: Option<u64>,
    ended: bool,
    /// Handed out, and the application has not come back since.
    in_hand: Vec<(Part, i64)>,
}

impl<'a> Checker<'a> {
    fn new(truth: &'a Truth) -> Self {
        Self {
            truth,
            starts: BTreeMap::new(),
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            offsets: BTreeMap::new(),
        }
    }

    fn take(&mut self, event: &Event) -> Verdict {
        let now = event.at_ms;
        match &event.what {
            What::Fault(_)
            | What::Note(_)
            | What::Transactional(_)
            | What::Sent { .. }
            | What::Got { .. } => Ok(()),
            What::Subscribed {
                member,
                group,
                reset,
            } => {
                let reader = Reader::new(Some(*group), *reset, true);
                self.members.insert(*member, reader);
                Ok(())
            }
            What::Assigned {
                member,
                group,
                reset,
                starts,
            } => {
                let mut reader = Reader::new(*group, *reset, false);
                for (part, start) in starts {
                    let reading = self.sent(*group, *part, 0, *start);
                    reader.readings.insert(*part, reading);
                }
                // Taken anew by the same consumer: what it has in hand it still has.
                if let Some(old) = self.members.remove(member) {
                    reader.in_hand = old.in_hand;
                }
                self.members.insert(*member, reader);
                Ok(())
            }
            What::Done { member } => {
                self.done(*member);
                Ok(())
            }
            What::Delivered {
                member,
                generation,
                part,
                offset,
                id,
            } => self.delivered(now, *member, *generation, *part, *offset, *id),
            What::Position {
                member,
                part,
                offset,
            } => self.position(*member, *part, *offset),
            What::Sought { member, part, to } => {
                self.sought(*member, *part, *to);
                Ok(())
            }
            What::Paused { member, part } => {
                if let Some(reader) = self.members.get_mut(member) {
                    reader.paused.insert(*part);
                }
                Ok(())
            }
            What::Resumed { member, part } => {
                if let Some(reader) = self.members.get_mut(member) {
                    reader.paused.remove(part);
                }
                Ok(())
            }
            What::Ended { member, .. } => {
                if let Some(reader) = self.members.get_mut(member) {
                    reader.ended = true;
                }
                Ok(())
            }
            What::CommitCalled {
                member,
                number,
                positions,
            } => {
                for (part, offset) in positions {
                    self.position(*member, *part, *offset)?;
                }
                if let Some((group, _)) = self.group_of(*member) {
                    let offsets = self.offsets.entry(group).or_default();
                    offsets.called(*number, positions.clone());
                }
                Ok(())
            }
            What::CommitAcked { member, number } => {
                if let Some((group, _)) = self.group_of(*member) {
                    self.offsets.entry(group).or_default().acked(*number);
                }
                Ok(())
            }
            What::CommitSent {
                member,
                number,
                offsets,
            } => {
                let Some((group, _)) = self.group_of(*member) else {
                    return Ok(());
                };
                for (part, offset) in offsets {
                    self.committed_is_done(group, *part, *offset)?;
                }
                let of_group = self.offsets.entry(group).or_default();
                of_group.sent(*number, now, offsets);
                Ok(())
            }
            What::CommitAnswered { number } => {
                for offsets in self.offsets.values_mut() {
                    offsets.answered(*number);
                }
                Ok(())
            }
            What::Synced {
                member,
                generation,
                parts,
            } => self.synced(now, *member, *generation, parts),
            What::Told {
                member,
                verdict,
                heeded,
            } => {
                if let Some(reader) = self.members.get_mut(member)
                    && reader.generation == verdict.generation
                {
                    reader.last_told = Some(now);
                    if *heeded && reader.told.is_none() {
                        reader.told = Some(now);
                    }
                }
                Ok(())
            }
            What::Confirmed {
                member,
                generation,
                sent_ms,
            } => self.confirmed(*member, *generation, *sent_ms),
            What::Asked { member, number } => {
                if let Some(reader) = self.members.get_mut(member) {
                    let readings = reader.readings.values_mut();
                    for reading in readings.filter(|reading| reading.why == Why::Committed) {
                        reading.asked.insert(*number);
                    }
                }
                if let Some((group, _)) = self.group_of(*member) {
                    self.offsets.entry(group).or_default().asked(*number);
                }
                Ok(())
            }
            What::Committed {
                member,
                number,
                part,
                offset,
            } => self.committed(now, *member, *number, *part, *offset),
            What::LogStart { part, offset } => {
                let start = self.starts.entry(*part).or_default();
                *start = (*start).max(*offset);
                Ok(())
            }
            What::Called {
                member,
                name,
                took_ms,
                allowed_ms,
            } => holds(*took_ms <= allowed_ms + MARGIN_MS, Rule::CallsEnd, || {
                format!("{name} of m{member} took {took_ms} ms, {allowed_ms} were allowed")
            }),
            What::Overslept { member, part } => Err((
                Rule::WakesUp,
                format!("m{member} waits for records while some of {part} lie ready"),
            )),
            What::FinallyCommitted {
                group,
                part,
                offset,
            } => {
                let Some(offset) = offset else { return Ok(()) };
                self.committed_is_done(*group, *part, *offset)?;
                let offsets = self.offsets.entry(*group).or_default();
                let floor = offsets.floor(*part, now);
                holds(*offset >= floor, Rule::CommitsStay, || {
                    format!(
                        "{part} is committed at {offset}, an acknowledged commit was at {floor}"
                    )
                })
            }
        }
    }

    fn done(&mut self, member: Member) {
        let Some(reader) = self.members.get_mut(&member) else {
            return;
        };
        let in_hand = std::mem::take(&mut reader.in_hand);
        if let Some(group) = reader.group {
            let offsets = self.offsets.entry(group).or_default();
            for (part, offset) in in_hand {
                offsets.done(part, offset);
            }
        }
    }

    fn group_of(&self, member: Member) -> Option<(u8, &Reader)> {
        let reader = self.members.get(&member)?;
        Some((reader.group?, reader))
    }
}

impl Reader {
    fn new(group: Option<u8>, reset: Reset, subscribed: bool) -> Self {
        Self {
            group,
            reset,
            generation: -1,
            subscribed,
            readings: BTreeMap::new(),
            paused: BTreeSet::new(),
            told: None,
            last_told: None,
            ended: false,
            in_hand: Vec::new(),
        }
    }
}

fn holds(holds: bool, rule: Rule, problem: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err((rule, problem()))
    }
}

/// How much longer than its deadline a call may take: some tasks have to be woken.
const MARGIN_MS: u64 = 250;
