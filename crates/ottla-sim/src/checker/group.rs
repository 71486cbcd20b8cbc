//! Rules about members of groups and about what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ottla_wire::ErrorCode;

use super::consumer::Coordinator;
use super::mixed::ClassicMembers;
use super::place::{Place, Reading, Trimmed, Why, either, low};
use super::{Checker, Outcome, Reader, Rule, holds};
use crate::history::{Claims, Member, News, Part, Reset, Verdict};

/// What the generations of a group were.
#[derive(Default)]
pub(super) struct Group {
    owners: BTreeMap<(i32, Part), Owner>,
    /// Who said on joining a generation that it had the partition, and since which.
    claims: BTreeMap<(i32, Part), Vec<(i32, Owner)>>,
    /// When the first member of a generation was given its partitions.
    begun_ms: BTreeMap<i32, u64>,
    /// By the consumer protocol there are no generations.
    pub(super) coordinator: Coordinator,
    pub(super) classic: ClassicMembers,
}

/// Who has a partition: a member, or whichever member comes as this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Member(Member),
    Instance(u32),
}

impl Group {
    /// Whether somebody else was given this in a generation between these.
    fn was_others(&self, part: Part, owner: Owner, between: Range<i32>) -> bool {
        let mut generations = between;
        generations.any(|generation| {
            let given = self.owners.get(&(generation, part));
            given.is_some_and(|given| *given != owner)
        })
    }

    /// Whoever has given nothing up keeps it: what somebody brings along is nobody else's in that generation. Of two who
    /// say that they have it, the one with the newer assignment knows better.
    fn claim_is_respected(&self, generation: i32, part: Part) -> Outcome {
        let claims = self.claims.get(&(generation, part));
        let newest = claims.into_iter().flatten().max_by_key(|(since, _)| since);
        let owner = self.owners.get(&(generation, part));
        let (Some((since, claimant)), Some(owner)) = (newest, owner) else {
            return Ok(());
        };
        holds(claimant == owner, Rule::OneOwner, || {
            format!(
                "{part} was given to {owner:?} in generation {generation}, which {claimant:?} joined while it had \
                 that partition since generation {since}"
            )
        })
    }
}

/// Where a member is between one assignment and the next.
#[derive(Default)]
pub(super) struct Rebalance {
    pub(super) cooperative: bool,
    pub(super) instance: Option<u32>,
    /// How long the coordinator of the classic protocol waits for it at least.
    pub(super) patience_ms: u64,
    /// The member id that it goes by; none until it has one, and when it has to ask for another.
    id: String,
    /// The ids that it went by before: an answer that names one of them is late.
    former: BTreeSet<String>,
    /// It has asked to join without an id, as every member does first.
    begun: bool,
    /// The newest generation it has joined; it gets its assignment later.
    pub(super) joined: i32,
    /// The generation of the assignment that it goes by.
    goes_by: i32,
    /// It asks to join, or has to: what heartbeats and commits are answered is nothing to it.
    joining: bool,
    pub(super) synced_ms: Option<u64>,
    /// What the latest assignment took away. In the instant in which it came the member may not know it yet.
    pub(super) leaving: BTreeMap<Part, Reading>,
    /// When its listener had dealt with that.
    gave_up_ms: Option<u64>,
    /// A message that was late may have been heeded or not. What the member has is known again when it joins.
    pub(super) unsure: bool,
    /// When it heard that it has lost its place, since its last assignment.
    pub(super) lost_ms: Option<u64>,
    /// It may have heard of a loss that its listener was not told of.
    pub(super) losses: bool,
    /// The application gives everything up.
    pub(super) leaves: bool,
}

impl Rebalance {
    /// What was taken away in this very instant.
    pub(super) fn leaving(&mut self, part: Part, now: u64) -> Option<&mut Reading> {
        let leaving = self.leaving.get_mut(&part);
        leaving.filter(|_| self.synced_ms == Some(now))
    }

    /// What the latest assignment took away.
    pub(super) fn given_up(&mut self, part: Part) -> Option<&mut Reading> {
        self.leaving.get_mut(&part)
    }

    /// Its listener has dealt with the end of these.
    pub(super) fn gave_up(&mut self, parts: &[Part], now: u64) {
        let taken_away = parts.iter().any(|part| self.leaving.contains_key(part));
        if self.cooperative && !self.unsure && taken_away {
            self.gave_up_ms = Some(now);
        }
    }

    fn owner(&self, member: Member) -> Owner {
        self.instance.map_or(Owner::Member(member), Owner::Instance)
    }
}

impl Checker<'_> {
    pub(super) fn joins(
        &mut self,
        member: Member,
        queued_ms: u64,
        id: &str,
        claims: &Claims,
    ) -> Outcome {
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let rebalance = &mut reader.rebalance;
        let begins = id.is_empty();
        let given_one = rebalance.begun && rebalance.id.is_empty();
        let brings = rebalance.synced_ms.is_none() && !claims.parts.is_empty();
        let over = rebalance.former.contains(id);
        if brings || over || !begins && !given_one && rebalance.id != id {
            // It was late to leave, and speaks of a place that the member, or who it was before, has lost since. Where members
            // of both protocols meet, it is let in all the same.
            rebalance.former.insert(id.to_owned());
            return Ok(());
        }
        let before = std::mem::replace(&mut rebalance.id, id.to_owned());
        if begins && !before.is_empty() {
            rebalance.former.insert(before);
        }
        rebalance.begun |= begins;
        rebalance.joining = true;
        rebalance.gave_up_ms = None;
        let knows = claims.generation == rebalance.goes_by;
        if !knows && rebalance.synced_ms.is_some_and(|at| queued_ms <= at) {
            // Perhaps asked before the assignment came, and overtaken by that.
            rebalance.unsure |= rebalance.cooperative;
        } else if std::mem::take(&mut rebalance.unsure) {
            rebalance.goes_by = claims.generation;
            let mut old = std::mem::take(&mut reader.readings);
            let parts = claims.parts.iter();
            let readings = parts.map(|part| (*part, Reading::anywhere(old.remove(part))));
            reader.readings = readings.collect();
        } else {
            for part in &claims.parts {
                let given = reader.readings.contains_key(part);
                holds(given && knows, Rule::TrueClaims, || {
                    let has = if given { "has" } else { "has not got" };
                    format!(
                        "m{member} says that it has {part} since generation {}; it {has} it, and goes by generation {}",
                        claims.generation, rebalance.goes_by
                    )
                })?;
            }
            reader
                .readings
                .retain(|part, _| claims.parts.contains(part));
        }
        Ok(())
    }

    pub(super) fn joined(
        &mut self,
        member: Member,
        generation: i32,
        id: &str,
        claims: &Claims,
    ) -> Outcome {
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let Some(group) = reader.group else {
            return Ok(());
        };
        let rebalance = &mut reader.rebalance;
        // Of a static member that asked twice the coordinator keeps the second.
        let again = rebalance.instance.is_some() && rebalance.begun && rebalance.joining;
        if (rebalance.id.is_empty() || again) && !rebalance.former.contains(id) {
            let before = std::mem::replace(&mut rebalance.id, id.to_owned());
            if !before.is_empty() && before != id {
                rebalance.former.insert(before);
            }
        }
        if rebalance.id == id {
            let before = rebalance.joined;
            let passed = rebalance.instance.is_some() && generation > before + 1;
            // Its place was kept in one that it was not in: it learns from this that it has lost what it had.
            rebalance.losses |= passed && !reader.readings.is_empty();
            rebalance.joined = before.max(generation);
        }
        let owner = rebalance.owner(member);
        let group = self.groups.entry(group).or_default();
        if group.coordinator.knows_any() {
            // A consumer group lets those in, too, that it gave up on, and that may not know it. Who has what is judged by who
            // was given it.
            return Ok(());
        }
        for part in &claims.parts {
            let of_part = group.claims.entry((generation, *part)).or_default();
            of_part.push((claims.generation, owner));
            group.claim_is_respected(generation, *part)?;
        }
        Ok(())
    }

    pub(super) fn told(
        &mut self,
        now: u64,
        member: Member,
        id: &str,
        verdict: Verdict,
        heeded: bool,
    ) {
        let Some(reader) = self.members.get_mut(&member) else {
            return;
        };
        if reader.reconciliation.terms.is_some() {
            // Only heartbeats tell.
            return;
        }
        let loses = verdict.error != ErrorCode::REBALANCE_IN_PROGRESS.0;
        if loses && let Some(group) = reader.group.and_then(|group| self.groups.get_mut(&group)) {
            group.classic.gives_up(member);
        }
        let rebalance = &mut reader.rebalance;
        rebalance.losses |= loses;
        if rebalance.id != id {
            // A static member that stayed away for too long is another one when it comes back, in the same generation:
            // what the one before is told is nothing to it.
            return;
        }
        if loses {
            // Of the generation that it joins, too: a cooperative member reads on until then.
            reader.last_told = Some(now);
        }
        let coming = verdict.rebalancing && verdict.generation == rebalance.joined;
        if reader.generation != verdict.generation && !coming {
            return;
        }
        if !loses && (verdict.rebalancing || rebalance.cooperative) {
            rebalance.joining = true;
            return;
        }
        reader.last_told = Some(now);
        let deaf = rebalance.cooperative && rebalance.joining && !verdict.rebalancing;
        if heeded && !deaf {
            reader.told.get_or_insert(now);
            if loses {
                rebalance.lost_ms.get_or_insert(now);
            }
        }
    }

    pub(super) fn heard(
        &mut self,
        now: u64,
        member: Member,
        news: News,
        parts: &[Part],
    ) -> Outcome {
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let Reader {
            rebalance,
            introduced,
            ..
        } = reader;
        let introduced = introduced.get_or_insert_default();
        match news {
            News::Assigned => {
                return parts.iter().try_for_each(|part| {
                    holds(introduced.insert(*part), Rule::ToldApart, || {
                        format!("m{member} is told once more that it has {part}")
                    })
                });
            }
            News::Revoked => {
                if let Some(lost) = rebalance.lost_ms {
                    holds(now <= lost, Rule::ToldApart, || {
                        let since = now - lost;
                        format!(
                            "m{member} hears of a revocation, and has lost its place {since} ms ago"
                        )
                    })?;
                }
            }
            News::Lost { stayed_away } => {
                let lost = std::mem::take(&mut rebalance.losses) || stayed_away;
                holds(lost, Rule::ToldApart, || {
                    format!("m{member} hears of a loss, and has not lost its place")
                })?;
            }
        }
        let keeps = rebalance.cooperative && !rebalance.unsure && !rebalance.leaves;
        for part in parts {
            holds(introduced.remove(part), Rule::ToldApart, || {
                format!("m{member} hears of the end of {part}, which it has not got")
            })?;
            let kept = keeps && news == News::Revoked && !rebalance.leaving.contains_key(part);
            holds(!kept, Rule::KeptGoesOn, || {
                format!("m{member} gives up {part}, which nobody took away")
            })?;
        }
        Ok(())
    }

    pub(super) fn synced(
        &mut self,
        now: u64,
        member: Member,
        generation: i32,
        parts: &[Part],
        heeded: bool,
    ) -> Outcome {
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let Some(group) = reader.group.filter(|_| reader.subscribed) else {
            return Ok(());
        };
        reader.generation = generation;
        (reader.told, reader.last_told) = (None, None);
        let mut old = std::mem::take(&mut reader.readings);
        let rebalance = &mut reader.rebalance;
        let owner = rebalance.owner(member);
        let group = self.groups.entry(group).or_default();
        let between = rebalance.goes_by + 1..generation;
        rebalance.goes_by = generation;
        rebalance.synced_ms = Some(now);
        rebalance.lost_ms = None;
        rebalance.unsure |= rebalance.cooperative && !heeded;
        let mut kept = BTreeSet::new();
        for part in parts {
            let reading = match old.remove(part).filter(|_| rebalance.cooperative) {
                old if rebalance.unsure => Reading::anywhere(old),
                // A static member may have been silent for a generation.
                Some(_) if group.was_others(*part, owner, between.clone()) => {
                    Reading::new(Place::Unknown, Why::Committed)
                }
                Some(reading) => {
                    kept.insert(*part);
                    reading
                }
                None => Reading::new(Place::Unknown, Why::Committed),
            };
            reader.readings.insert(*part, reading);
        }
        // Taken anew, a partition is not paused.
        reader.paused.retain(|part| kept.contains(part));
        rebalance.unsure &= !heeded;
        // It gives up what was taken away, and joins again.
        rebalance.joining = !old.is_empty();
        rebalance.leaving = old;
        rebalance.gave_up_ms = None;
        group.begun_ms.entry(generation).or_insert(now);
        for part in parts {
            let first = *group.owners.entry((generation, *part)).or_insert(owner);
            holds(first == owner, Rule::OneOwner, || {
                format!("{part} was given to {first:?} and {owner:?} in generation {generation}")
            })?;
            group.claim_is_respected(generation, *part)?;
        }
        Ok(())
    }

    pub(super) fn confirmed(&mut self, member: Member, generation: i32, sent_ms: u64) -> Outcome {
        let Some((group, reader)) = self.group_of(member) else {
            return Ok(());
        };
        let rebalance = &reader.rebalance;
        let gave_up = rebalance.gave_up_ms;
        let gave_up = gave_up.filter(|_| rebalance.goes_by == generation && !rebalance.leaves);
        if let Some(gave_up) = gave_up {
            holds(sent_ms <= gave_up + HAND_OVER_MS, Rule::HandsOver, || {
                format!(
                    "m{member} gave partitions up for others {} ms ago, and goes on in generation {generation}",
                    sent_ms - gave_up
                )
            })?;
        }
        let group = self.groups.entry(group).or_default();
        group.classic.confirmed(member, sent_ms);
        let newer = group.begun_ms.range(generation + 1..).next();
        match newer {
            Some((newer, begun)) if sent_ms > *begun => Err((
                Rule::OneOwner,
                format!(
                    "m{member} was confirmed in generation {generation} by an answer to what it sent when \
                     generation {newer} was {} ms old",
                    sent_ms - begun
                ),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn committed(
        &mut self,
        now: u64,
        member: Member,
        number: u64,
        part: Part,
        offset: Option<i64>,
    ) -> Outcome {
        let start = self.starts.get(&part).copied().unwrap_or(0);
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let reset = reader.reset;
        let group = reader.group;
        if let Some(group) = group {
            let offsets = self.offsets.entry(group).or_default();
            let floor = offsets.floor_when_asked(number, part, now);
            let told = offset.unwrap_or(0);
            holds(told >= floor, Rule::CommitsStay, || {
                format!(
                    "m{member} learns that {part} is committed at {offset:?}, an acknowledged commit was at {floor}"
                )
            })?;
        }
        let heard = reader.readings.get_mut(&part);
        if let Some(reading) = heard.filter(|reading| reading.asked.contains(&number)) {
            let place = match (offset, reset) {
                (Some(offset), _) => Place::at(offset),
                (None, Reset::Earliest) => Place::Within {
                    low: start,
                    high: start,
                    trimmed: Trimmed::Beginning,
                },
                (None, _) => Place::from(start),
            };
            reading.place = either(reading.place, place);
            if let Some(group) = group {
                // By the consumer protocol, whoever had it before cannot commit for it any more once it is this member's.
                let id = &reader.reconciliation.id;
                let coordinator = &self.groups.entry(group).or_default().coordinator;
                if coordinator.owner_since(part, now, now) == Some(id) {
                    let offsets = self.offsets.entry(group).or_default();
                    offsets.forget_strays(part, |by| by != id && coordinator.knows(by));
                }
                // A commit that was under way may have been stored since: from here on, it starts before that.
                let offsets = self.offsets.entry(group).or_default();
                offsets.goes_back(part, low(place));
            }
        }
        match (group, offset) {
            (Some(group), Some(offset)) => self.committed_is_done(group, part, offset),
            _ => Ok(()),
        }
    }

    pub(super) fn committed_is_done(&mut self, group: u8, part: Part, committed: i64) -> Outcome {
        let start = self.starts.get(&part).copied().unwrap_or(0);
        let lenient = self
            .members
            .values()
            .any(|reader| reader.group == Some(group) && reader.reset == Reset::Latest);
        let offsets = self.offsets.entry(group).or_default();
        for offset in self.truth.between(part, start, committed) {
            // A group that starts at the end passes over what it was never handed.
            let fine =
                offsets.is_done(part, offset) || lenient && !offsets.was_handed(part, offset);
            holds(fine, Rule::CommittedIsDone, || {
                let state = match offsets.was_handed(part, offset) {
                    true => "was handed out, but nobody is done with it",
                    false => "was never handed out",
                };
                format!(
                    "g{group} commits {part} at {committed}, and the record at {offset} {state}"
                )
            })?;
        }
        Ok(())
    }
}

/// How long a member may take to join again when it has given something up: what its listener began to commit is waited
/// for, and the last heartbeat before that may have waited to leave.
const HAND_OVER_MS: u64 = 25_000;
