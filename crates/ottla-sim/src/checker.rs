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
//! - What a member says that it has when it asks to join, it has, and nothing else: all that it had before it has given up.
//!   A cooperative member reads on what it has.
//! - A listener hears of a partition before its first record, and behind its last one. What members without one give up,
//!   they say when they join again.
//!
//! What a group promises about owners, and what it does not:
//! - In one generation a partition is given to one member, and to nobody if somebody who was given it before brings it
//!   along. A member hands out only what it was given or brought along, in the generation it was given or is joining, and
//!   nothing any more once it was told that it has lost its place. The coordinator confirms nobody in a generation
//!   after the next one began.
//! - It does not promise that a member which the coordinator gave up on knows it at once. Until it hears of it, it may read
//!   on beside the next owner: its commits are refused, and what it read comes again.
//! - What a member is told late (nobody may wait for it any more), it may have heeded or not: from there until it says
//!   what it has, the rules about owners and places do not judge it, all others do.
//! - A static member that comes back takes the place of the one before it, in the same generation. So it does between
//!   the two rebalances in which a cooperative group hands a partition over. Then it is the leader's to ask for the second
//!   one, or nobody would ever have that partition.
//! - A static member also keeps its place in a generation that it was silent in, and what it has may have been another's
//!   there: it goes on where the group has committed, and its listener hears of a loss.

mod commits;
mod consumer;
mod group;
mod mixed;
mod place;
mod reading;
#[cfg(test)]
mod tests;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use self::commits::GroupOffsets;
use self::consumer::Reconciliation;
use self::group::{Group, Rebalance};
use self::place::{Reading, Why};
pub(crate) use self::truth::{Truth, Written};
use crate::history::{End, Event, Member, News, Part, Reset, What};

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
    /// in a generation that is over. By the consumer protocol nobody is given, or commits for, what another member
    /// was given and has not given up; nor is anybody by the one protocol what a member by the other has.
    OneOwner,
    /// Who joins claims what it was given last and has not given up, under the generation in which it was given. So
    /// does a heartbeat of the consumer protocol.
    TrueClaims,
    /// In a cooperative rebalance, and by the consumer protocol, nobody gives up what nobody takes away.
    KeptGoesOn,
    /// A cooperative member that has given up what was taken away joins again, or nobody would get it.
    HandsOver,
    /// Nothing is handed out by a member that was told to give it up.
    GivenUpWhenTold,
    /// A listener is told once that a partition is the member's, and once that it is not any more: revoked while the
    /// member has its place, lost when it has lost that.
    ToldApart,
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

type Violation = crate::violation::Violation<Rule>;

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

type Outcome = Result<(), (Rule, String)>;

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
    rebalance: Rebalance,
    reconciliation: Reconciliation,
    /// What its listener was told that it has, if it has a listener.
    introduced: Option<BTreeSet<Part>>,
    readings: BTreeMap<Part, Reading>,
    paused: BTreeSet<Part>,
    /// When it was told to leave its generation, and surely heard it.
    told: Option<u64>,
    /// When it was last told so, whether or not it still waited for the answer.
    last_told: Option<u64>,
    ended: bool,
    /// The time for its leaving was up, which a listener that does not end is not waited for beyond.
    cut_off: bool,
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

    fn take(&mut self, event: &Event) -> Outcome {
        let now = event.at_ms;
        match &event.what {
            What::Fault(_)
            | What::Note(_)
            | What::Transactional(_)
            | What::Shared(_)
            | What::Led { .. }
            | What::Sent { .. }
            | What::Got { .. } => Ok(()),
            What::Subscribed {
                member,
                group,
                reset,
                terms,
            } => {
                let mut reader = Reader::new(Some(*group), *reset, true);
                reader.rebalance.cooperative = terms.cooperative;
                reader.rebalance.instance = terms.instance;
                reader.rebalance.patience_ms = terms.patience_ms;
                reader.reconciliation.terms = terms.consumer;
                reader.introduced = terms.listens.then(BTreeSet::new);
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
                self.done(*member, None);
                Ok(())
            }
            What::DoneOf { member, part } => {
                self.done(*member, Some(*part));
                Ok(())
            }
            What::GivenBack { member, part } => {
                self.given_back(*member, *part);
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
            What::Ended { member, how } => {
                if *how != End::Crashed {
                    self.gives_up(*member);
                }
                let Some(reader) = self.members.get_mut(member) else {
                    return Ok(());
                };
                reader.ended = true;
                let left = reader.introduced.iter().flatten().next();
                // Others may not have had the time, and who crashes hears nothing.
                let told = *how != End::Unsubscribed || left.is_none() || reader.cut_off;
                holds(told, Rule::ToldApart, || {
                    format!(
                        "m{member} has ended, and its listener was never told that {left:?} is gone"
                    )
                })
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
                id,
                offsets,
            } => {
                let Some((group, _)) = self.group_of(*member) else {
                    return Ok(());
                };
                for (part, offset) in offsets {
                    self.commits_where_it_was_sent(*member, *part, *offset);
                    self.committed_is_done(group, *part, *offset)?;
                }
                let of_group = self.offsets.entry(group).or_default();
                of_group.sent(*number, now, id, offsets);
                Ok(())
            }
            What::CommitAnswered { number, stored } => {
                self.stored(now, *number, stored)?;
                for offsets in self.offsets.values_mut() {
                    offsets.answered(*number);
                }
                Ok(())
            }
            What::Joins {
                member,
                queued_ms,
                id,
                claims,
            } => {
                self.asks(now, *member, id);
                self.joins(*member, *queued_ms, id, claims)
            }
            What::Joined {
                member,
                generation,
                id,
                claims,
            } => {
                self.let_in(*member);
                self.joined(*member, *generation, id, claims)
            }
            What::Heard {
                member,
                news,
                parts,
            } => self.heard(now, *member, *news, parts),
            What::HeardOut { member, parts } => {
                if let Some(reader) = self.members.get_mut(member) {
                    reader.rebalance.gave_up(parts, now);
                }
                Ok(())
            }
            What::CutShort {
                member,
                news,
                parts,
            } => {
                if let Some(reader) = self.members.get_mut(member) {
                    // The same loss will be told of again.
                    reader.rebalance.losses |= matches!(news, News::Lost { .. });
                    reader.introduced.get_or_insert_default().extend(parts);
                }
                Ok(())
            }
            What::Leaves { member } => {
                if let Some(reader) = self.members.get_mut(member) {
                    reader.rebalance.leaves = true;
                }
                self.gives_up(*member);
                Ok(())
            }
            What::Synced {
                member,
                generation,
                sent_ms,
                parts,
                heeded,
            } => {
                self.given_by_classic(now, *member, *sent_ms, parts)?;
                self.synced(now, *member, *generation, parts, *heeded)
            }
            What::Left { member } => {
                self.gives_up(*member);
                Ok(())
            }
            What::Told {
                member,
                id,
                verdict,
                heeded,
            } => {
                self.told(now, *member, id, *verdict, *heeded);
                Ok(())
            }
            What::Confirmed {
                member,
                generation,
                sent_ms,
            } => self.confirmed(*member, *generation, *sent_ms),
            What::Beats(beat) => self.beats(now, beat),
            What::Beaten(beaten) => self.beaten(now, beaten),
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
            } => {
                if let Some(reader) = self.members.get_mut(member) {
                    reader.cut_off |= *name == "unsubscribe" && took_ms >= allowed_ms;
                }
                holds(*took_ms <= allowed_ms + MARGIN_MS, Rule::CallsEnd, || {
                    format!("{name} of m{member} took {took_ms} ms, {allowed_ms} were allowed")
                })
            }
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

    /// The application is done with what it has, or with what it has of one partition.
    fn done(&mut self, member: Member, only: Option<Part>) {
        let Some(reader) = self.members.get_mut(&member) else {
            return;
        };
        let in_hand = reader
            .in_hand
            .extract_if(.., |(part, _)| only.is_none_or(|only| *part == only))
            .collect::<Vec<_>>();
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
            rebalance: Rebalance::default(),
            reconciliation: Reconciliation::default(),
            introduced: None,
            readings: BTreeMap::new(),
            paused: BTreeSet::new(),
            told: None,
            last_told: None,
            ended: false,
            cut_off: false,
            in_hand: Vec::new(),
        }
    }
}

fn holds(holds: bool, rule: Rule, problem: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err((rule, problem()))
    }
}

/// How much longer than its deadline a call may take: some tasks have to be woken.
const MARGIN_MS: u64 = 250;
