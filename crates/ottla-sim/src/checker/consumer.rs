//! Rules about members by the consumer protocol (KIP-848), from their heartbeats.
//!
//! Two sides are looked at. *The coordinator* counts what it gave a member as that member's until the member says that it has
//! it no longer, leaves, or is silent or late for too long: [`Coordinator`]. *The member* has what it was given, gives
//! up what it is given no longer before it says so, and takes what is new only when an answer has come after it last said what
//! it has: [`Reconciliation`].

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::ErrorCode;

use super::commits::STRAY_MS;
use super::place::{Place, Reading, Why};
use super::{Checker, Outcome, Reader, Rule, holds};
use crate::history::{Beat, Beaten, ConsumerTerms, Part};

/// What the coordinator of a group must know of its members, by their ids.
#[derive(Default)]
pub(super) struct Coordinator {
    members: BTreeMap<String, Holder>,
}

struct Holder {
    terms: ConsumerTerms,
    instance: Option<u32>,
    /// What it was given and has not said that it gave up, and when it heard of that.
    given: BTreeMap<Part, u64>,
    /// When it sent what the coordinator last answered well: it has a place at least since then.
    alive_ms: u64,
    /// It may have been told to give something up as early as then.
    late_since: Option<u64>,
    /// What it last said that it has, and in which heartbeat.
    named: Option<(u64, BTreeSet<Part>)>,
    /// Heartbeats without an answer: they may yet be handled.
    open: BTreeMap<u64, Open>,
}

/// A heartbeat that may have come to the coordinator or not.
struct Open {
    sent_ms: u64,
    /// It leaves or joins anew.
    ends: bool,
    owned: Option<BTreeSet<Part>>,
}

impl Coordinator {
    fn holder(&mut self, id: &str, terms: ConsumerTerms) -> &mut Holder {
        let holder = self.members.entry(id.to_owned());
        holder.or_insert_with(|| Holder {
            terms,
            instance: None,
            given: BTreeMap::new(),
            alive_ms: 0,
            late_since: None,
            named: None,
            open: BTreeMap::new(),
        })
    }

    /// Whether there are such members, or were.
    pub(super) fn knows_any(&self) -> bool {
        !self.members.is_empty()
    }

    /// A member by the other protocol comes under this name, and whoever had it before has nothing any more.
    pub(super) fn succeeds(&mut self, instance: u32) {
        let holders = self.members.values_mut();
        for holder in holders.filter(|holder| holder.instance == Some(instance)) {
            holder.given.clear();
        }
    }

    /// Whether that is, or was, a member by the consumer protocol.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    /// Who has had a partition without a break since `from`, in the eyes of the coordinator, and has it still.
    pub(super) fn owner_since(&self, part: Part, from: u64, now: u64) -> Option<&str> {
        let mut owners = self.members.iter();
        let owner = owners.find(|(_, holder)| {
            let since = holder.given.get(&part);
            since.is_some_and(|since| *since <= from && holder.keeps(part, *since, now))
        });
        owner.map(|(id, _)| id.as_str())
    }
}

impl Holder {
    /// Whether nothing can have ended its time with that partition.
    fn keeps(&self, part: Part, since: u64, now: u64) -> bool {
        let patience = self.terms.session_ms.min(self.terms.rebalance_ms);
        let in_time = self.late_since.unwrap_or(now) + self.terms.rebalance_ms > now;
        let strays = self.open.values().any(|open| {
            let lets_go = open.owned.as_ref().is_some_and(|of| !of.contains(&part));
            open.sent_ms <= since && open.sent_ms + STRAY_MS > now && (open.ends || lets_go)
        });
        self.alive_ms + patience > now && in_time && !strays
    }

    fn says(&mut self, beat: &Beat, now: u64) {
        let owned: Option<BTreeSet<Part>> =
            beat.owned.as_ref().map(|of| of.iter().copied().collect());
        if beat.epoch <= 0 {
            self.given.clear();
            self.named = Some((beat.number, BTreeSet::new()));
        }
        if let Some(owned) = &owned {
            self.given.retain(|part, _| owned.contains(part));
            self.named = Some((beat.number, owned.clone()));
        }
        let open = Open {
            sent_ms: now,
            ends: beat.epoch <= 0,
            owned,
        };
        self.open.insert(beat.number, open);
    }

    /// The answer to one of its heartbeats. What is news among what it is given.
    fn hears(&mut self, beaten: &Beaten, now: u64) -> Vec<Part> {
        self.open.remove(&beaten.number);
        if ends_membership(beaten.error) {
            self.given.clear();
        }
        if beaten.error != 0 || beaten.asked < 0 {
            return Vec::new();
        }
        let before = self.alive_ms;
        self.alive_ms = before.max(beaten.sent_ms);
        let Some(assignment) = &beaten.assignment else {
            return Vec::new();
        };
        let let_go = |part: &Part| {
            let named = self.named.as_ref();
            named.is_some_and(|(number, of)| *number > beaten.number && !of.contains(part))
        };
        let news = assignment.iter().copied();
        let news = news.filter(|part| !self.given.contains_key(part) && !let_go(part));
        let news: Vec<Part> = news.collect();
        self.given.extend(news.iter().map(|part| (*part, now)));
        let all_wanted = self.given.keys().all(|part| assignment.contains(part));
        self.late_since = match all_wanted {
            true => None,
            // It may have been decided with any heartbeat since the last one that was answered.
            false => Some(self.late_since.unwrap_or(before)),
        };
        news
    }
}

/// Where a member is between what it has and what it shall have.
#[derive(Default)]
pub(super) struct Reconciliation {
    pub(super) terms: Option<ConsumerTerms>,
    /// The member id that it goes by.
    pub(super) id: String,
    /// It has asked to join.
    joins: bool,
    /// What it shall have and has neither named nor read.
    untaken: BTreeSet<Part>,
    /// What it did not name when it last said what it has: it may take it when an answer comes.
    pending: BTreeSet<Part>,
    /// Given once more while it was being given up.
    again: BTreeSet<Part>,
    /// Taken away while something else is being given up: its turn comes after that.
    waits: BTreeSet<Part>,
    /// Its latest heartbeat.
    latest: u64,
    /// When an answer came last that it waited for.
    answered_ms: u64,
    /// The epoch before this one, and when that ended.
    before: (i32, u64),
    /// An answer that may have been heeded: its epoch and assignment.
    late: Option<(i32, Option<Vec<Part>>)>,
}

impl Reconciliation {
    /// Whether the member may hand out in an epoch that was over in this very instant.
    pub(super) fn was_in(&self, epoch: i32, now: u64) -> bool {
        self.before == (epoch, now)
    }

    /// Whether what was taken away may be read on for a while.
    pub(super) fn waits(&self, part: Part) -> bool {
        self.waits.contains(&part)
    }

    /// Whether the member was given this once more while it was giving it up.
    pub(super) fn is_given_again(&self, part: Part) -> bool {
        self.again.contains(&part)
    }

    pub(super) fn reads(&mut self, part: Part) {
        self.untaken.remove(&part);
    }

    /// It is a member no more.
    fn ends(&mut self) {
        self.untaken.clear();
        self.pending.clear();
        self.again.clear();
        self.waits.clear();
        self.late = None;
    }
}

impl Checker<'_> {
    pub(super) fn beats(&mut self, now: u64, beat: &Beat) -> Outcome {
        let Some(reader) = self.members.get_mut(&beat.member) else {
            return Ok(());
        };
        let (Some(group), Some(terms)) = (reader.group, reader.reconciliation.terms) else {
            return Ok(());
        };
        let group = self.groups.entry(group).or_default();
        let holder = group.coordinator.holder(&beat.id, terms);
        holder.instance = reader.rebalance.instance;
        holder.says(beat, now);
        if let Some(instance) = holder.instance.filter(|_| beat.epoch == 0) {
            group.classic.succeeds(beat.member, instance);
        }
        reader.reconciliation.latest = beat.number;
        reader.reconciliation.id.clone_from(&beat.id);
        if beat.queued_ms < reader.reconciliation.answered_ms {
            // Perhaps made before the latest answer, and overtaken by that.
            return Ok(());
        }
        if reader.ended {
            // It was dropped while its listener was called, and goes on until that call ends.
            return Ok(());
        }
        reader.says(beat, now)
    }

    pub(super) fn beaten(&mut self, now: u64, beaten: &Beaten) -> Outcome {
        let Some(reader) = self.members.get_mut(&beaten.member) else {
            return Ok(());
        };
        let (Some(group), Some(terms)) = (reader.group, reader.reconciliation.terms) else {
            return Ok(());
        };
        let group = self.groups.entry(group).or_default();
        let news = group
            .coordinator
            .holder(&beaten.id, terms)
            .hears(beaten, now);
        for part in news {
            group.classic.is_free(part, beaten, now)?;
            let of_others = group.coordinator.members.iter().find(|(id, holder)| {
                let since = holder.given.get(&part).filter(|_| **id != beaten.id);
                let since = since.filter(|since| **since < beaten.sent_ms);
                since.is_some_and(|since| holder.keeps(part, *since, now))
            });
            if let Some((id, holder)) = of_others {
                let since = now - holder.given[&part];
                return Err((
                    Rule::OneOwner,
                    format!(
                        "{part} is given to m{} as {}, and {id} was given it {since} ms ago and has not said that it gave it up",
                        beaten.member, beaten.id
                    ),
                ));
            }
        }
        reader.hears(beaten, now);
        Ok(())
    }

    /// A commit was answered, and these are stored: none of them may be for what was another member's all the time.
    pub(super) fn stored(&self, now: u64, number: u64, stored: &[Part]) -> Outcome {
        for (group, offsets) in &self.offsets {
            let Some((sent_ms, by)) = offsets.sender(number).filter(|(_, by)| !by.is_empty())
            else {
                continue;
            };
            let Some(group) = self.groups.get(group) else {
                continue;
            };
            for part in stored {
                let owner = group
                    .coordinator
                    .owner_since(*part, sent_ms.saturating_sub(1), now);
                holds(
                    owner.is_none_or(|owner| owner == by),
                    Rule::OneOwner,
                    || {
                        format!(
                            "a commit of {by} for {part} was taken, which is {owner:?}'s since before it was sent"
                        )
                    },
                )?;
            }
        }
        Ok(())
    }
}

impl Reader {
    /// The member says something that it made after all that it was answered.
    fn says(&mut self, beat: &Beat, now: u64) -> Outcome {
        let member = beat.member;
        if beat.epoch <= 0 {
            let owned = beat.owned.as_deref().unwrap_or_default();
            self.reconciliation.joins |= beat.epoch == 0;
            self.give_all_up();
            return holds(owned.is_empty(), Rule::TrueClaims, || {
                format!("m{member} joins and says that it has {owned:?}")
            });
        }
        if !self.reconciliation.joins {
            // Of a consumer that was another member before: it was late to leave.
            return Ok(());
        }
        if self.rebalance.unsure {
            match self.reconciliation.late.take().filter(|_| !beat.full) {
                // It goes on from there: it took the answer.
                Some((epoch, assignment)) => self.settle(epoch, assignment, now),
                None => {
                    self.generation = beat.epoch;
                    if let Some(owned) = &beat.owned {
                        let mut old = std::mem::take(&mut self.readings);
                        let owned = owned.iter();
                        let readings =
                            owned.map(|part| (*part, Reading::anywhere(old.remove(part))));
                        self.readings = readings.collect();
                    }
                    return Ok(());
                }
            }
        }
        if let Some(told) = self.told {
            holds(now <= told, Rule::TrueClaims, || {
                format!(
                    "m{member} beats in epoch {} though it has lost its place",
                    beat.epoch
                )
            })?;
        }
        holds(beat.epoch == self.generation, Rule::TrueClaims, || {
            format!(
                "m{member} beats in epoch {}, and is in {}",
                beat.epoch, self.generation
            )
        })?;
        let Some(owned) = &beat.owned else {
            return Ok(());
        };
        for part in owned {
            let has = self.readings.contains_key(part) || self.rebalance.given_up(*part).is_some();
            holds(has, Rule::TrueClaims, || {
                format!("m{member} says that it has {part}, and it has not")
            })?;
        }
        let reconciliation = &mut self.reconciliation;
        let unnamed: Vec<Part> = self
            .readings
            .keys()
            .copied()
            .filter(|part| !owned.contains(part))
            .collect();
        for part in unnamed {
            let free =
                reconciliation.untaken.contains(&part) || reconciliation.again.contains(&part);
            holds(free, Rule::KeptGoesOn, || {
                format!("m{member} says no longer that it has {part}, which nobody took away")
            })?;
            self.readings.remove(&part);
            reconciliation.untaken.remove(&part);
            reconciliation.pending.insert(part);
        }
        reconciliation.untaken.retain(|part| !owned.contains(part));
        for part in owned {
            if reconciliation.again.remove(part) {
                self.rebalance.leaving.remove(part);
            }
        }
        let leaving = &mut self.rebalance.leaving;
        leaving.retain(|part, _| owned.contains(part));
        let first_go = leaving
            .keys()
            .any(|part| !reconciliation.waits.contains(part));
        reconciliation
            .waits
            .retain(|part| first_go && leaving.contains_key(part));
        let (readings, leaving) = (&self.readings, &self.rebalance.leaving);
        self.paused
            .retain(|part| readings.contains_key(part) || leaving.contains_key(part));
        Ok(())
    }

    /// The member is answered.
    fn hears(&mut self, beaten: &Beaten, now: u64) {
        if beaten.number != self.reconciliation.latest || beaten.asked < 0 || self.ended {
            return;
        }
        let ok = beaten.error == 0;
        let loses = ends_membership(beaten.error) && beaten.asked > 0;
        self.rebalance.losses |= loses;
        if !beaten.heeded {
            self.rebalance.unsure = true;
            // Whoever heeded this one heeded the one before.
            let before = self.reconciliation.late.take();
            let before = before.and_then(|(_, assignment)| assignment);
            let given = beaten.assignment.clone().or(before);
            self.reconciliation.late = ok.then_some((beaten.epoch, given));
            return;
        }
        self.reconciliation.answered_ms = now;
        if loses {
            self.told.get_or_insert(now);
            self.last_told = Some(now);
            self.rebalance.lost_ms.get_or_insert(now);
        }
        if !ok {
            return;
        }
        (self.told, self.last_told, self.rebalance.lost_ms) = (None, None, None);
        if beaten.asked == 0 {
            self.give_all_up();
        }
        if self.rebalance.unsure {
            if beaten.assignment.is_some() {
                self.settle(beaten.epoch, beaten.assignment.clone(), now);
            }
            return;
        }
        self.reconciliation.before = (self.generation, now);
        self.generation = beaten.epoch;
        self.rebalance.synced_ms = Some(now);
        let reconciliation = &mut self.reconciliation;
        let Some(assignment) = &beaten.assignment else {
            for part in std::mem::take(&mut reconciliation.pending) {
                reconciliation.untaken.insert(part);
                self.readings
                    .insert(part, Reading::new(Place::Unknown, Why::Committed));
            }
            return;
        };
        reconciliation.pending.clear();
        let leaving = &mut self.rebalance.leaving;
        let busy = leaving
            .keys()
            .any(|part| !reconciliation.waits.contains(part));
        let gone = self
            .readings
            .extract_if(.., |part, _| !assignment.contains(part));
        for (part, reading) in gone {
            reconciliation.untaken.remove(&part);
            // What it may have been taking once more it gives up now, and may name until that is done.
            reconciliation.again.remove(&part);
            leaving.insert(part, reading);
            if busy {
                reconciliation.waits.insert(part);
            }
        }
        // Taken anew, a partition is not paused.
        let readings = &self.readings;
        self.paused.retain(|part| readings.contains_key(part));
        for part in assignment {
            if self.readings.contains_key(part) {
                continue;
            }
            let reading = if reconciliation.waits.remove(part) {
                leaving.remove(part)
            } else if let Some(old) = leaving.get(part) {
                reconciliation.again.insert(*part);
                Some(Reading::anywhere(Some(old.clone())))
            } else {
                reconciliation.untaken.insert(*part);
                None
            };
            let reading = reading.unwrap_or_else(|| Reading::new(Place::Unknown, Why::Committed));
            self.readings.insert(*part, reading);
        }
    }

    /// It reads what it was given once more while it was giving it up: it is done with that.
    pub(super) fn takes_again(&mut self, part: Part) {
        if self.reconciliation.again.remove(&part) {
            self.rebalance.leaving.remove(&part);
        }
    }

    fn give_all_up(&mut self) {
        self.reconciliation.ends();
        self.readings.clear();
        self.paused.clear();
        self.rebalance.leaving.clear();
        self.rebalance.unsure = false;
        self.generation = 0;
    }

    /// Which answers it heeded is known again; where it stands is not.
    fn settle(&mut self, epoch: i32, assignment: Option<Vec<Part>>, now: u64) {
        self.rebalance.unsure = false;
        (self.told, self.last_told, self.rebalance.lost_ms) = (None, None, None);
        self.reconciliation.before = (self.generation, now);
        self.generation = epoch;
        self.rebalance.synced_ms = Some(now);
        let Some(assignment) = assignment else {
            // With the answer it took what it had not named before.
            for part in std::mem::take(&mut self.reconciliation.pending) {
                // It may have been sent somewhere since.
                let reading = self.readings.entry(part);
                reading.or_insert_with(|| Reading::anywhere(None));
                self.reconciliation.untaken.insert(part);
            }
            return;
        };
        let mut old = std::mem::take(&mut self.readings);
        self.reconciliation.ends();
        for part in assignment {
            let reading = Reading::anywhere(old.remove(&part));
            self.readings.insert(part, reading);
            self.reconciliation.again.insert(part);
        }
        self.reconciliation.waits.extend(old.keys());
        self.rebalance.leaving.extend(old);
        self.paused.clear();
    }
}

/// Whether it tells a member that it has no place in the group.
fn ends_membership(error: i16) -> bool {
    let ends = [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_MEMBER_EPOCH,
        ErrorCode::GROUP_ID_NOT_FOUND,
    ];
    ends.contains(&ErrorCode(error))
}
