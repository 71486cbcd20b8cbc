//! Rules about what is handed out, and from where on.

use super::place::{Place, Reading, Trimmed, Why, exact, low, stands};
use super::{Checker, Outcome, Rule, holds};
use crate::history::{Id, Member, Part, Start};

impl Checker<'_> {
    pub(super) fn delivered(
        &mut self,
        now: u64,
        member: Member,
        generation: i32,
        part: Part,
        offset: i64,
        id: u64,
    ) -> Outcome {
        let what = || format!("{part}@{offset}, handed to m{member} in generation {generation},");
        let written = self.truth.at(part, offset);
        holds(written.is_some_and(|w| w.id == id), Rule::InTheLog, || {
            let there = written.map(|w| Id(w.id).to_string());
            format!("{} is {}, in the log is {there:?}", what(), Id(id))
        })?;
        let start = self.starts.get(&part).copied().unwrap_or(0);
        let Some(reader) = self.members.get_mut(&member) else {
            return Err((
                Rule::OnlyAssigned,
                format!("{} before m{member} began", what()),
            ));
        };
        holds(!reader.ended, Rule::EndHolds, || {
            format!("{} after m{member} had ended", what())
        })?;
        let unsure = reader.rebalance.unsure;
        reader.reconciliation.reads(part);
        reader.takes_again(part);
        if reader.subscribed && !unsure {
            // In the instant in which it is told, it has no generation any more and may still hand out. Who has lost its place
            // names 0, which no group has.
            let told_now = generation <= 0 && reader.last_told == Some(now);
            // A cooperative member reads on while the next generation forms.
            let coming = reader.generation..=reader.rebalance.joined;
            let forms = reader.rebalance.cooperative && coming.contains(&generation);
            let by_now = reader.reconciliation.was_in(generation, now);
            let own = generation == reader.generation || forms || told_now || by_now;
            holds(own, Rule::OnlyAssigned, || {
                format!("{} when its generation was {}", what(), reader.generation)
            })?;
            if let Some(at) = reader.told {
                holds(now <= at, Rule::GivenUpWhenTold, || {
                    format!("{} {} ms after it was told to give it up", what(), now - at)
                })?;
            }
        }
        let introduced = reader.introduced.as_ref();
        let known = introduced.is_none_or(|introduced| introduced.contains(&part));
        holds(known, Rule::OnlyAssigned, || {
            format!(
                "{} and its listener was not told that it has that partition",
                what()
            )
        })?;
        let (reset, group) = (reader.reset, reader.group);
        let mut anywhere = Reading::new(Place::from(0), Why::Committed);
        let reading = match reader.readings.get_mut(&part) {
            Some(reading) => Some(reading),
            None if unsure => Some(&mut anywhere),
            None if reader.reconciliation.waits(part) => reader.rebalance.given_up(part),
            None => reader.rebalance.leaving(part, now),
        };
        let Some(reading) = reading else {
            return Err((
                Rule::OnlyAssigned,
                format!("{} is not assigned to it", what()),
            ));
        };
        if !unsure {
            holds(!reader.paused.contains(&part), Rule::PauseHolds, || {
                format!("{} while that partition was paused", what())
            })?;
            stands(self.truth, reading, part, offset, reset, start)
                .map_err(|(rule, problem)| (rule, format!("{} {problem}", what())))?;
        }
        let passed_over = reading.arrive(offset, reset);
        *reading = Reading::new(Place::at(offset + 1), Why::Read);
        reader.in_hand.push((part, offset));
        if let Some(group) = group {
            let offsets = self.offsets.entry(group).or_default();
            offsets.skip(part, passed_over, offset);
            offsets.handed(part, offset);
        }
        Ok(())
    }

    pub(super) fn position(&mut self, member: Member, part: Part, offset: i64) -> Outcome {
        let start = self.starts.get(&part).copied().unwrap_or(0);
        let Some(reader) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let (reset, group, unsure) = (reader.reset, reader.group, reader.rebalance.unsure);
        // The listener of a consumer that was dropped may still commit: nothing is expected of where, but it passes over what
        // it was sent past.
        let ended = reader.ended;
        let truth = self.truth;
        let what = || format!("m{member} says that it is at {part}@{offset}, and");
        let is_there = |reading: &Reading| {
            let Place::Within { low, .. } = reading.place else {
                return Ok(());
            };
            let back = match reading.why {
                Why::Sought => Rule::SeekHolds,
                _ => Rule::NothingRepeated,
            };
            holds(unsure || offset >= low, back, || {
                format!("{} was at {low}", what())
            })?;
            match truth.first(part, offset).filter(|_| !unsure) {
                Some(next) => stands(truth, reading, part, next, reset, start)
                    .map_err(|(rule, problem)| (rule, format!("{} {problem}", what()))),
                None => Ok(()),
            }
        };
        // What it is giving up it still has, and commits. It may be done with that, in words that have not left yet.
        if reader.reconciliation.is_given_again(part)
            && let Some(left) = reader.rebalance.given_up(part)
            && is_there(left).is_err()
        {
            reader.takes_again(part);
        }
        let left = reader.rebalance.given_up(part);
        let own = reader.readings.get_mut(&part);
        let reading = match reader.reconciliation.is_given_again(part) {
            true => left.or(own),
            false => own.or(left),
        };
        let Some(reading) = reading.filter(|reading| !matches!(reading.place, Place::Unknown))
        else {
            return Ok(());
        };
        if !ended {
            is_there(reading)?;
        }
        // What lies before the place it was sent to is passed over, and may be committed before a record comes.
        let passed_over = reading.arrive(offset, reset);
        if let Some(group) = group {
            let offsets = self.offsets.entry(group).or_default();
            offsets.skip(part, passed_over, offset);
        }
        Ok(())
    }

    /// Whoever read the partition lets go of it, and what it is not done with comes again.
    pub(super) fn given_back(&mut self, member: Member, part: Part) {
        let Some(reader) = self.members.get_mut(&member) else {
            return;
        };
        let back = reader.in_hand.extract_if(.., |(of, _)| *of == part);
        let Some(first) = back.map(|(_, offset)| offset).min() else {
            return;
        };
        // What it is giving up, it may commit up to there.
        let left = reader.rebalance.given_up(part);
        let readings = reader.readings.get_mut(&part).into_iter().chain(left);
        for reading in readings.filter(|reading| reading.why == Why::Read) {
            reading.place = Place::at(first);
        }
    }

    pub(super) fn sought(&mut self, member: Member, part: Part, to: Start) {
        let Some(reader) = self.members.get(&member) else {
            return;
        };
        let (group, old) = (reader.group, reader.readings.get(&part));
        let from = old.map_or(0, |old| low(old.place).min(old.from.unwrap_or(i64::MAX)));
        let reading = self.sent(group, part, from, to);
        if let Some(reader) = self.members.get_mut(&member) {
            let again = reader.reconciliation.is_given_again(part);
            let left = reader.rebalance.given_up(part);
            let left = left.filter(|_| again || !reader.readings.contains_key(&part));
            match left {
                Some(left) => *left = reading,
                None => drop(reader.readings.insert(part, reading)),
            }
        }
    }

    /// A reader that stood at `from` is sent somewhere.
    pub(super) fn sent(&mut self, group: Option<u8>, part: Part, from: i64, to: Start) -> Reading {
        let mut reading = self.reading(part, to);
        let Some(group) = group.filter(|_| !matches!(to, Start::Committed)) else {
            // Before what is committed, all is done; where that is, and whether it is back, it has to ask.
            return reading;
        };
        let offsets = self.offsets.entry(group).or_default();
        let to = low(reading.place);
        if exact(reading.place) {
            offsets.skip(part, from, to);
        } else {
            reading.from = Some(from);
        }
        offsets.goes_back(part, to);
        reading
    }

    /// Automatic commit may write where a reader was sent, once the brokers have said where that is, before it has told of its
    /// position.
    pub(super) fn commits_where_it_was_sent(&mut self, member: Member, part: Part, offset: i64) {
        let Some(reader) = self.members.get_mut(&member) else {
            return;
        };
        let left = reader.rebalance.given_up(part);
        let reading = reader.readings.get_mut(&part).or(left);
        let sent = reading.filter(|reading| reading.why == Why::Sought && !exact(reading.place));
        let place = sent.map(|reading| (reading.from, low(reading.place)));
        if let (Some((Some(from), low)), Some(group)) = (place, reader.group)
            && offset >= low
        {
            let offsets = self.offsets.entry(group).or_default();
            offsets.skip(part, from, offset);
        }
    }

    fn reading(&self, part: Part, start: Start) -> Reading {
        let place = match start {
            Start::At(offset) => Place::at(offset),
            Start::Beginning(begins) => Place::Within {
                low: begins,
                high: begins,
                trimmed: Trimmed::Beginning,
            },
            Start::End(ends) => Place::from(ends),
            Start::Tail(count, ends) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                Place::from(ends.saturating_sub(count).max(0))
            }
            Start::Time(time, ends) => {
                let begins = self.starts.get(&part).copied().unwrap_or(0);
                let log = self.truth.logs.get(&part).filter(|_| begins < ends);
                let found = log.and_then(|log| {
                    let mut old = log.range(begins..ends);
                    old.find(|(_, record)| record.timestamp >= time)
                });
                match found {
                    Some((offset, _)) => Place::Within {
                        low: *offset,
                        high: *offset,
                        trimmed: Trimmed::Behind,
                    },
                    None => Place::from(ends),
                }
            }
            Start::Committed => Place::Unknown,
        };
        let why = match start {
            Start::Committed => Why::Committed,
            _ => Why::Sought,
        };
        Reading::new(place, why)
    }
}
