//! Rules about groups in which members of both protocols meet (KIP-848): nobody is given by the one what a member of the
//! other was given and has not given up.
//!
//! What members by the consumer protocol were given, [`super::consumer`] knows. What those by the classic one were given, and
//! for how long the coordinator surely counts it as theirs, is here: until they ask to join again, leave, hear that they have
//! lost their place, or are silent for too long.

use std::collections::BTreeMap;

use super::commits::STRAY_MS;
use super::{Checker, Outcome, Rule};
use crate::history::{Beaten, Member, Part};

/// What the coordinator of a group must know of members by the classic protocol.
#[derive(Default)]
pub(super) struct ClassicMembers {
    members: BTreeMap<Member, Holder>,
}

#[derive(Default)]
struct Holder {
    instance: Option<u32>,
    patience_ms: u64,
    /// What it was given, and when it heard of that.
    given: BTreeMap<Part, u64>,
    /// When it sent what the coordinator last answered well.
    alive_ms: u64,
    /// When it asked to join, and was not answered: the coordinator may yet hear that.
    asked: Vec<u64>,
    /// It has said that it leaves: what it is given after that, somebody sent before he heard of it.
    left: bool,
}

impl Holder {
    fn keeps(&self, now: u64) -> bool {
        let strays = self.asked.iter().any(|sent| sent + STRAY_MS > now);
        self.alive_ms + self.patience_ms > now && !strays
    }
}

impl ClassicMembers {
    /// A member by the consumer protocol is given a partition that it had not, which nobody may have had since before it
    /// asked, and have still.
    pub(super) fn is_free(&self, part: Part, beaten: &Beaten, now: u64) -> Outcome {
        let owner = self.members.iter().find(|(_, holder)| {
            let since = holder.given.get(&part);
            since.is_some_and(|since| *since < beaten.sent_ms) && holder.keeps(now)
        });
        let Some((owner, _)) = owner else {
            return Ok(());
        };
        let given = format!("{part} is given to m{} as {}", beaten.member, beaten.id);
        let problem =
            format!("{given}, and is m{owner}'s by the classic protocol since before it asked");
        Err((Rule::OneOwner, problem))
    }

    pub(super) fn confirmed(&mut self, member: Member, sent_ms: u64) {
        if let Some(holder) = self.members.get_mut(&member) {
            holder.alive_ms = holder.alive_ms.max(sent_ms);
        }
    }

    pub(super) fn gives_up(&mut self, member: Member) {
        if let Some(holder) = self.members.get_mut(&member) {
            holder.given.clear();
        }
    }

    /// Whoever had this name before has nothing any more.
    pub(super) fn succeeds(&mut self, member: Member, instance: u32) {
        let same = |(other, holder): &(&Member, &mut Holder)| {
            **other != member && holder.instance == Some(instance)
        };
        for (_, holder) in self.members.iter_mut().filter(same) {
            holder.given.clear();
        }
    }
}

impl Checker<'_> {
    /// A member asks to join by the classic protocol.
    pub(super) fn asks(&mut self, now: u64, member: Member, id: &str) {
        let Some((group, reader)) = self.group_of(member) else {
            return;
        };
        let (instance, patience_ms) = (reader.rebalance.instance, reader.rebalance.patience_ms);
        let group = self.groups.entry(group).or_default();
        let holder = group.classic.members.entry(member).or_default();
        (holder.instance, holder.patience_ms) = (instance, patience_ms);
        holder.given.clear();
        holder.left = false;
        // Who has no name and asks without an id has another one in the end.
        if instance.is_some() || !id.is_empty() {
            holder.asked.push(now);
        }
        if let Some(instance) = instance {
            group.classic.succeeds(member, instance);
            group.coordinator.succeeds(instance);
        }
    }

    /// It leaves, whoever its consumer is by the time the word of that is sent.
    pub(super) fn gives_up(&mut self, member: Member) {
        if let Some((group, _)) = self.group_of(member) {
            let group = self.groups.entry(group).or_default();
            group.classic.gives_up(member);
            if let Some(holder) = group.classic.members.get_mut(&member) {
                holder.left = true;
            }
        }
    }

    /// It was let in.
    pub(super) fn let_in(&mut self, member: Member) {
        if let Some((group, _)) = self.group_of(member) {
            let group = self.groups.entry(group).or_default();
            if let Some(holder) = group.classic.members.get_mut(&member) {
                holder.asked.pop();
            }
        }
    }

    /// It is given these, in answer to what it sent then.
    pub(super) fn given_by_classic(
        &mut self,
        now: u64,
        member: Member,
        sent_ms: u64,
        parts: &[Part],
    ) -> Outcome {
        let Some((group, _)) = self.group_of(member) else {
            return Ok(());
        };
        let group = self.groups.entry(group).or_default();
        let holder = group.classic.members.entry(member).or_default();
        holder.alive_ms = holder.alive_ms.max(sent_ms);
        if !holder.left {
            holder.given = parts.iter().map(|part| (*part, now)).collect();
        }
        for part in parts {
            let from = sent_ms.saturating_sub(1);
            if let Some(owner) = group.coordinator.owner_since(*part, from, now) {
                let given = format!("{part} is given to m{member} by the classic protocol");
                let problem =
                    format!("{given}, and is {owner}'s by the other since before it asked");
                return Err((Rule::OneOwner, problem));
            }
        }
        Ok(())
    }
}
