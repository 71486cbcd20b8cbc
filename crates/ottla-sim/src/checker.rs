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
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::commits::GroupOffsets;
use crate::history::{Event, Id, Member, Part, Reset, Start, What};

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

/// Every record that was ever written, also those deleted since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) logs: BTreeMap<Part, BTreeMap<i64, Written>>,
}

/// One record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) id: u64,
    pub(crate) timestamp: i64,
}

impl Truth {
    fn at(&self, part: Part, offset: i64) -> Option<Written> {
        self.logs.get(&part)?.get(&offset).copied()
    }

    /// The first record at or behind an offset.
    fn first(&self, part: Part, offset: i64) -> Option<i64> {
        let log = self.logs.get(&part)?;
        log.range(offset..).next().map(|(offset, _)| *offset)
    }

    fn between(&self, part: Part, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let log = self.logs.get(&part);
        log.into_iter()
            .filter(move |_| from < to)
            .flat_map(move |log| log.range(from..to))
            .map(|(offset, _)| *offset)
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

/// What the generations of a group were.
#[derive(Default)]
struct Group {
    owners: BTreeMap<(i32, Part), Member>,
    /// When the first member of a generation was given its partitions.
    begun_ms: BTreeMap<i32, u64>,
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

/// Where a reader stands in a partition.
#[derive(Clone, Debug)]
struct Reading {
    place: Place,
    why: Why,
    /// Where it stood when it was sent to a place of which nobody knew the offset yet.
    from: Option<i64>,
    /// Questions for committed offsets that left since it was sent there.
    asked: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Nobody has told the reader where the group is.
    Unknown,
    /// Its next record is the first one at or behind some offset in this range, both ends included.
    Within {
        low: i64,
        high: i64,
        /// Where the range ends if the log has come to begin behind `low`.
        trimmed: Trimmed,
    },
}

/// Where somebody who was sent to a place lands if that has been deleted before it was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trimmed {
    /// Nowhere: it was an offset.
    Nowhere,
    /// At the beginning there is.
    Beginning,
    /// Wherever the next record with such a timestamp is.
    Behind,
}

/// Why it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Committed,
    Sought,
    Read,
}

impl Reading {
    /// The reader is at `offset`. From where on it passed over what lies before, on purpose.
    fn arrive(&mut self, offset: i64, reset: Reset) -> i64 {
        if exact(self.place) {
            // Where a reset to the end leads is not known before.
            return if reset == Reset::Latest {
                low(self.place)
            } else {
                offset
            };
        }
        let from = self.from.take().unwrap_or(offset);
        let from = if reset == Reset::Latest {
            from.min(low(self.place))
        } else {
            from
        };
        self.place = Place::at(offset);
        from
    }

    fn new(place: Place, why: Why) -> Self {
        Self {
            place,
            why,
            from: None,
            asked: BTreeSet::new(),
        }
    }
}

impl Place {
    fn at(offset: i64) -> Self {
        Self::Within {
            low: offset,
            high: offset,
            trimmed: Trimmed::Nowhere,
        }
    }

    fn from(low: i64) -> Self {
        Self::Within {
            low,
            high: i64::MAX,
            trimmed: Trimmed::Nowhere,
        }
    }
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

    fn delivered(
        &mut self,
        now: u64,
        member: Member,
        generation: i32,
        part: Part,
        offset: i64,
        id: u64,
    ) -> Verdict {
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
        if reader.subscribed {
            // In the instant in which it is told, it has no generation any more and may still hand out.
            let told_now = generation == -1 && reader.last_told == Some(now);
            let own = generation == reader.generation || told_now;
            holds(own, Rule::OnlyAssigned, || {
                format!("{} when its generation was {}", what(), reader.generation)
            })?;
            if let Some(at) = reader.told {
                holds(now <= at, Rule::GivenUpWhenTold, || {
                    format!("{} {} ms after it was told to give it up", what(), now - at)
                })?;
            }
        }
        let (reset, group) = (reader.reset, reader.group);
        let Some(reading) = reader.readings.get_mut(&part) else {
            return Err((
                Rule::OnlyAssigned,
                format!("{} is not assigned to it", what()),
            ));
        };
        holds(!reader.paused.contains(&part), Rule::PauseHolds, || {
            format!("{} while that partition was paused", what())
        })?;
        stands(self.truth, reading, part, offset, reset, start)
            .map_err(|(rule, problem)| (rule, format!("{} {problem}", what())))?;
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

    fn position(&mut self, member: Member, part: Part, offset: i64) -> Verdict {
        let start = self.starts.get(&part).copied().unwrap_or(0);
        let Some(reader) = self.members.get_mut(&member).filter(|reader| !reader.ended) else {
            return Ok(());
        };
        let (reset, group) = (reader.reset, reader.group);
        let Some(reading) = reader.readings.get_mut(&part) else {
            return Ok(());
        };
        let Place::Within { low, .. } = reading.place else {
            return Ok(());
        };
        let what = || format!("m{member} says that it is at {part}@{offset}, and");
        let back = match reading.why {
            Why::Sought => Rule::SeekHolds,
            _ => Rule::NothingRepeated,
        };
        holds(offset >= low, back, || format!("{} was at {low}", what()))?;
        if let Some(next) = self.truth.first(part, offset) {
            stands(self.truth, reading, part, next, reset, start)
                .map_err(|(rule, problem)| (rule, format!("{} {problem}", what())))?;
        }
        // What lies before the place it was sent to is passed over, and may be committed before a record comes.
        let passed_over = reading.arrive(offset, reset);
        if let Some(group) = group {
            let offsets = self.offsets.entry(group).or_default();
            offsets.skip(part, passed_over, offset);
        }
        Ok(())
    }

    fn sought(&mut self, member: Member, part: Part, to: Start) {
        let Some(reader) = self.members.get(&member) else {
            return;
        };
        let (group, old) = (reader.group, reader.readings.get(&part));
        let from = old.map_or(0, |old| low(old.place).min(old.from.unwrap_or(i64::MAX)));
        let reading = self.sent(group, part, from, to);
        if let Some(reader) = self.members.get_mut(&member) {
            reader.readings.insert(part, reading);
        }
    }

    /// A reader that stood at `from` is sent somewhere.
    fn sent(&mut self, group: Option<u8>, part: Part, from: i64, to: Start) -> Reading {
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

    fn synced(&mut self, now: u64, member: Member, generation: i32, parts: &[Part]) -> Verdict {
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

    fn confirmed(&mut self, member: Member, generation: i32, sent_ms: u64) -> Verdict {
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

    fn committed(
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

    fn committed_is_done(&mut self, group: u8, part: Part, committed: i64) -> Verdict {
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

/// Whether the next record of a reader that stands there may be the one at `offset`.
fn stands(
    truth: &Truth,
    reading: &Reading,
    part: Part,
    offset: i64,
    reset: Reset,
    log_start: i64,
) -> Verdict {
    let Place::Within {
        low,
        mut high,
        trimmed,
    } = reading.place
    else {
        return Err((
            Rule::StartsAtCommitted,
            "although nobody had said where the group is".to_owned(),
        ));
    };
    if log_start > low {
        // What it stands at may be gone.
        match reset {
            Reset::Earliest => high = high.max(log_start),
            Reset::Latest => high = i64::MAX,
            Reset::Fail => {}
        }
        match trimmed {
            Trimmed::Nowhere => {}
            Trimmed::Beginning => high = high.max(log_start),
            Trimmed::Behind => high = i64::MAX,
        }
    }
    let (back, over) = match reading.why {
        Why::Committed => (Rule::StartsAtCommitted, Rule::StartsAtCommitted),
        Why::Sought => (Rule::SeekHolds, Rule::SeekHolds),
        Why::Read => (Rule::NothingRepeated, Rule::NothingSkipped),
    };
    holds(offset >= low, back, || {
        format!("lies before {low}, where it stood")
    })?;
    let last = truth.first(part, high).unwrap_or(i64::MAX);
    holds(offset <= last, over, || {
        format!("lies behind {last}, the first record from where it stood")
    })
}

fn low(place: Place) -> i64 {
    match place {
        Place::Unknown => 0,
        Place::Within { low, .. } => low,
    }
}

/// Whether the place is one offset.
fn exact(place: Place) -> bool {
    matches!(place, Place::Within { low, high, trimmed: Trimmed::Nowhere } if low == high)
}

/// Two answers before the first record: either may be the one that was heeded.
fn either(old: Place, new: Place) -> Place {
    match (old, new) {
        (
            Place::Within { low, high, trimmed },
            Place::Within {
                low: new_low,
                high: new_high,
                trimmed: new_trimmed,
            },
        ) => Place::Within {
            low: low.min(new_low),
            high: high.max(new_high),
            trimmed: trimmed.max(new_trimmed),
        },
        (_, new) => new,
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
