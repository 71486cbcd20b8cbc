//! Rules about members of groups and about what is committed.

use std::collections::BTreeMap;

use super::place::{Place, Reading, Trimmed, Why, either, low};
use super::{Checker, Rule, Verdict, holds};
use crate::history::{Member, Part, Reset};

/// What the generations of a group were.
#[derive(Default)]
pub(super) struct Group {
    owners: BTreeMap<(i32, Part), Member>,
    /// When the first member of a generation was given its partitions.
    begun_ms: BTreeMap<i32, u64>,
}

impl Checker<'_> {
    pub(super) fn synced(
        &mut self,
        now: u64,
        member: Member,
        generation: i32,
        parts: &[Part],
    ) -> Verdict {
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let Some(group) = reader.group.filter(|_| reader.subscribed) else {
            return Ok(());
        };
        reader.generation = generation;
        (reader.told, reader.last_told) = (None, None);
        // Taken anew, a partition is not paused.
        reader.paused.clear();
        let unknown = || Reading::new(Place::Unknown, Why::Committed);
        reader.readings = parts.iter().map(|part| (*part, unknown())).collect();
        let group = self.groups.entry(group).or_default();
        group.begun_ms.entry(generation).or_insert(now);
        for part in parts {
            let owner = *group.owners.entry((generation, *part)).or_insert(member);
            holds(owner == member, Rule::OneOwner, || {
                format!("{part} was given to m{owner} and m{member} in generation {generation}")
            })?;
        }
        Ok(())
    }

    pub(super) fn confirmed(&mut self, member: Member, generation: i32, sent_ms: u64) -> Verdict {
        let Some((group, _)) = self.group_of(member) else {
            return Ok(());
        };
        let group = self.groups.entry(group).or_default();
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
    ) -> Verdict {
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

    pub(super) fn committed_is_done(&mut self, group: u8, part: Part, committed: i64) -> Verdict {
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
