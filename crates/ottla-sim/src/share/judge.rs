//! Judges a history of share groups: which promise it breaks, if any.
//!
//! A plain struct: events in order go in, the first broken promise comes out. It looks at two things: what brokers and members
//! said to each other, and what applications were handed, said and were told.
//!
//! What the rules lean on:
//! - A record was acquired between the moment in which the fetch was sent and the one in which its answer came, and is
//!   locked from then on. So its lock surely holds from the answer until the lock's time after the sending, as long as
//!   the member has said nothing final of it, and its share session surely goes on: the broker takes a request of that
//!   session which is sent later. Whether the member is one of the group is not asked: the coordinator knows that, who
//!   tells the partitions' leaders nothing.
//! - When a partition is led by another node, the locks on its records are over, and what was acquired and not done with may
//!   count or not: the next leader does not know of it, as with Kafka's.
//! - A fetch whose answer never came may have acquired anything once.
//! - What was sent and never answered is done or not.

#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use self::words::Holding;
use super::event::{ACCEPT, Answer, Event, GAP, REJECT, RENEW, Request, Run, Verdict};
use crate::checker::Truth;
use crate::history::{self, End, Id, Member, Part, What};

/// A promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What is handed out stands in the log at that place.
    InTheLog,
    /// Only what the member acquired is handed out, once, and not after its lock has timed out.
    OnlyAcquired,
    /// Nobody acquires what is locked for another member.
    OneHolder,
    /// The delivery count counts every time a record was acquired, and no other, and is never above its limit.
    CountIsTrue,
    /// What is accepted or rejected, and answered to be, never comes again.
    DoneIsDone,
    /// Brokers are told what the application said, all of it once and nothing else.
    WordsAreTheApplications,
    /// The application is told of each of its words what the broker answered.
    TrueOutcome,
    /// Each word has an outcome when a commit or the end has waited for that.
    EveryWordHasAnOutcome,
    /// What is locked no longer cannot be acknowledged.
    HeldIsSaid,
    /// A group is done only with what was accepted, rejected, or acquired as often as it may be.
    NothingLost,
    /// Nothing is handed out after the end.
    EndHolds,
}

type Violation = crate::violation::Violation<Rule>;

/// Judges a whole history.
///
/// # Errors
/// The first broken promise.
pub(crate) fn check(events: &[history::Event], truth: &Truth) -> Result<(), Violation> {
    let mut judge = Judge {
        truth,
        alive: sessions_alive(events),
        now: 0,
        index: 0,
        starts: BTreeMap::new(),
        led: BTreeMap::new(),
        groups: BTreeMap::new(),
        members: BTreeMap::new(),
        requests: BTreeMap::new(),
        commits: BTreeMap::new(),
    };
    for (index, event) in events.iter().enumerate() {
        (judge.index, judge.now) = (index, event.at_ms);
        let outcome = match &event.what {
            What::Shared(what) => judge.take(what),
            What::Led { part } => {
                judge.led(*part);
                Ok(())
            }
            What::LogStart { part, offset } => {
                let start = judge.starts.entry(*part).or_default();
                *start = (*start).max(*offset);
                Ok(())
            }
            _ => Ok(()),
        };
        outcome.map_err(|(rule, problem)| Violation {
            rule,
            index,
            problem,
        })?;
    }
    Ok(())
}

type Outcome = Result<(), (Rule, String)>;

/// A member's share session with a node, by its number among those.
type Session = (Member, i32, u32);

struct Judge<'a> {
    truth: &'a Truth,
    /// Until when sessions surely went on.
    alive: BTreeMap<Session, u64>,
    now: u64,
    index: usize,
    /// First offsets of logs of which something was deleted.
    starts: BTreeMap<Part, i64>,
    /// When partitions last got another leader.
    led: BTreeMap<Part, u64>,
    groups: BTreeMap<u8, Group>,
    members: BTreeMap<Member, Sharer>,
    requests: BTreeMap<u64, Sent>,
    /// When commits were asked for.
    commits: BTreeMap<u64, usize>,
}

struct Group {
    lock_ms: u64,
    deliveries_max: i16,
    log: BTreeMap<(Part, i64), Fate>,
    /// Fetches without an answer.
    unanswered: BTreeSet<u64>,
}

/// What became of a record so far.
#[derive(Default)]
struct Fate {
    /// Delivery counts under the present leader.
    counts: BTreeSet<i16>,
    /// Acquisitions before that, which count or not.
    uncertain: usize,
    highest: i16,
    deliveries: Vec<Delivery>,
    /// When it was answered that the group is done with it.
    done_ms: Option<u64>,
    /// Requests that would have it so, and are not answered.
    perhaps: BTreeSet<u64>,
}

struct Delivery {
    session: Session,
    /// When the fetch was sent and answered.
    asked_ms: u64,
    at_ms: u64,
    /// Until when it is surely locked, if nothing happens.
    until_ms: u64,
    /// It was surely acquired from the present leader.
    counts: bool,
    /// Something may have happened.
    over: bool,
}

/// A member.
struct Sharer {
    group: u8,
    explicit: bool,
    /// The number of its latest session with each node.
    sessions: BTreeMap<i32, u32>,
    holding: Holding,
    ended: bool,
}

struct Sent {
    request: Request,
    session: Session,
    sent_ms: u64,
}

impl Judge<'_> {
    fn take(&mut self, event: &Event) -> Outcome {
        let (now, index) = (self.now, self.index);
        match event {
            Event::Group {
                group,
                lock_ms,
                deliveries_max,
                ..
            } => {
                let set = Group {
                    lock_ms: *lock_ms,
                    deliveries_max: *deliveries_max,
                    log: BTreeMap::new(),
                    unanswered: BTreeSet::new(),
                };
                self.groups.insert(*group, set);
                Ok(())
            }
            Event::Joins {
                member,
                group,
                explicit,
            } => {
                let sharer = Sharer {
                    group: *group,
                    explicit: *explicit,
                    sessions: BTreeMap::new(),
                    holding: Holding::default(),
                    ended: false,
                };
                self.members.insert(*member, sharer);
                Ok(())
            }
            Event::Comes { member } => {
                if let Some(sharer) = self.members.get_mut(member).filter(|of| !of.explicit) {
                    sharer.holding.accept_all(index);
                }
                Ok(())
            }
            Event::GivesBack { member } => {
                if let Some(sharer) = self.members.get_mut(member) {
                    sharer.holding.give_back(now);
                }
                Ok(())
            }
            Event::Gets {
                member,
                node,
                part,
                offset,
                id,
                count,
            } => self.gets((*member, *node), (*part, *offset), *id, *count),
            Event::Says {
                member,
                node,
                part,
                offset,
                kind,
                ..
            } => match self.members.get_mut(member) {
                Some(of) => of.holding.says((*part, *offset, *node), *kind, index, now),
                None => Ok(()),
            },
            Event::Told {
                member,
                node,
                part,
                runs,
                verdict,
            } => self.told((*member, *node), *part, runs, *verdict),
            Event::Commits { number, .. } => {
                self.commits.insert(*number, index);
                Ok(())
            }
            Event::Committed { member, number } => {
                let asked = self.commits.get(number).copied().unwrap_or(0);
                self.all_told(*member, asked)
            }
            Event::Ended {
                member,
                how,
                settled,
            } => {
                if *settled && *how == End::Closed {
                    self.all_told(*member, index)?;
                }
                if let Some(sharer) = self.members.get_mut(member) {
                    sharer.ended = true;
                }
                Ok(())
            }
            Event::Beats { .. } | Event::Beaten { .. } => Ok(()),
            Event::Asks(request) => self.asks(request),
            Event::Answered(answer) => self.answered(answer),
            Event::Passed {
                group,
                part,
                offset,
            } => self.passed(*group, *part, *offset),
        }
    }

    fn gets(
        &mut self,
        (member, node): (Member, i32),
        (part, offset): (Part, i64),
        id: u64,
        count: i16,
    ) -> Outcome {
        let now = self.now;
        let what = || format!("{part}@{offset}, delivery {count}, handed to m{member}");
        let written = self.truth.at(part, offset);
        holds(written.is_some_and(|w| w.id == id), Rule::InTheLog, || {
            let there = written.map(|w| Id(w.id).to_string());
            format!("{} is {}, in the log is {there:?}", what(), Id(id))
        })?;
        let Some(sharer) = self.members.get_mut(&member) else {
            return Ok(());
        };
        holds(!sharer.ended, Rule::EndHolds, || {
            format!("{} after it had ended", what())
        })?;
        let handed = sharer.holding.hand_out((part, offset, node), count, now);
        handed.map_err(|(rule, problem)| (rule, format!("{}: {problem}", what())))
    }

    fn told(
        &mut self,
        (member, node): (Member, i32),
        part: Part,
        runs: &[Run],
        verdict: Verdict,
    ) -> Outcome {
        let now = self.now;
        let Some(sharer) = self.members.get_mut(&member) else {
            return Ok(());
        };
        for offset in runs.iter().flat_map(|(first, last)| *first..=*last) {
            let told = sharer
                .holding
                .told((part, offset, node), verdict, !sharer.explicit, now);
            told.map_err(|(rule, problem)| {
                (
                    rule,
                    format!("m{member} is told of {part}@{offset} {verdict:?}: {problem}"),
                )
            })?;
        }
        Ok(())
    }

    /// All that was said before has an outcome.
    fn all_told(&self, member: Member, before: usize) -> Outcome {
        let Some(sharer) = self.members.get(&member) else {
            return Ok(());
        };
        let untold = sharer.holding.untold(before);
        holds(untold.is_none(), Rule::EveryWordHasAnOutcome, || {
            format!("m{member} was not told what became of what it said of {untold:?}")
        })
    }

    /// What the member has acquired at a node may be others' from now on.
    fn lets_go(&mut self, member: Member, node: i32) {
        let group = self.members.get(&member).map(|sharer| sharer.group);
        let Some(group) = group.and_then(|group| self.groups.get_mut(&group)) else {
            return;
        };
        let deliveries = group.log.values_mut().flat_map(|fate| &mut fate.deliveries);
        for delivery in deliveries {
            let (by, at, _) = delivery.session;
            delivery.over |= by == member && node == at;
        }
    }

    fn asks(&mut self, request: &Request) -> Outcome {
        let Request { member, node, .. } = *request;
        if request.epoch <= 0 {
            self.lets_go(member, node);
        }
        let Some(sharer) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let session = sharer.sessions.entry(node).or_default();
        *session += u32::from(request.epoch == 0);
        let session = (member, node, *session);
        if request.epoch == 0 {
            sharer.holding.session_lost(node, self.now);
        }
        let Some(group) = self.groups.get_mut(&sharer.group) else {
            return Ok(());
        };
        if request.fetches && request.epoch >= 0 {
            group.unanswered.insert(request.number);
        }
        for (part, (first, last), kind) in &request.words {
            for offset in *first..=*last {
                let at = (*part, offset, node);
                if *kind == GAP {
                    let there = self.truth.at(*part, offset);
                    holds(there.is_none(), Rule::NothingLost, || {
                        format!("m{member} says that {part} has no record at {offset}")
                    })?;
                }
                let sent = sharer.holding.sent(at, *kind, request.number);
                sent.map_err(|(rule, problem)| {
                    (
                        rule,
                        format!("m{member} sends word {kind} of {part}@{offset}: {problem}"),
                    )
                })?;
                let fate = group.log.entry((*part, offset)).or_default();
                if *kind != RENEW {
                    let own = fate.deliveries.iter_mut();
                    for delivery in own.filter(|of| of.session.0 == member) {
                        delivery.over = true;
                    }
                }
                if is_final(*kind) {
                    fate.perhaps.insert(request.number);
                }
            }
        }
        let sent = Sent {
            request: request.clone(),
            session,
            sent_ms: self.now,
        };
        self.requests.insert(request.number, sent);
        Ok(())
    }

    fn answered(&mut self, answer: &Answer) -> Outcome {
        let now = self.now;
        let Some(sent) = self.requests.remove(&answer.number) else {
            return Ok(());
        };
        let (member, node, _) = sent.session;
        let Some(sharer) = self.members.get_mut(&member) else {
            return Ok(());
        };
        let Some(group) = self.groups.get_mut(&sharer.group) else {
            return Ok(());
        };
        group.unanswered.remove(&answer.number);
        for (part, (first, last), kind) in &sent.request.words {
            let of_part = answer.verdicts.iter().find(|(of, _)| of == part);
            let error = match answer.error {
                0 => of_part.map(|(_, error)| *error),
                error => Some(error),
            };
            for offset in *first..=*last {
                let lock = now + group.lock_ms;
                let heeded = answer.heeded;
                sharer
                    .holding
                    .answered((*part, offset, node), answer.number, error, heeded, lock);
                let Some(fate) = group.log.get_mut(&(*part, offset)) else {
                    continue;
                };
                if error.is_some() {
                    fate.perhaps.remove(&answer.number);
                }
                if error != Some(0) {
                    continue;
                }
                if is_final(*kind) {
                    fate.done_ms.get_or_insert(now);
                }
                if *kind == RENEW {
                    let own = fate.deliveries.iter_mut();
                    for delivery in own.filter(|of| of.session == sent.session) {
                        delivery.until_ms = delivery.until_ms.max(sent.sent_ms + group.lock_ms);
                    }
                }
            }
        }
        if answer.error != 0 {
            if answer.heeded {
                sharer.holding.session_lost(node, now);
            }
            return Ok(());
        }
        for (part, (first, last), count) in &answer.acquired {
            for offset in *first..=*last {
                self.acquired(&sent, *part, offset, *count)?;
            }
        }
        Ok(())
    }

    fn acquired(&mut self, sent: &Sent, part: Part, offset: i64, count: i16) -> Outcome {
        let now = self.now;
        let (member, node, _) = sent.session;
        let what = || format!("{part}@{offset}, acquired by m{member}, delivery {count},");
        let Some(group) = self.members.get(&member).map(|sharer| sharer.group) else {
            return Ok(());
        };
        let Some(group) = self.groups.get_mut(&group) else {
            return Ok(());
        };
        let fate = group.log.entry((part, offset)).or_default();
        if let Some(done) = fate.done_ms {
            holds(sent.sent_ms <= done, Rule::DoneIsDone, || {
                format!(
                    "{} was answered to be done with {} ms ago",
                    what(),
                    now - done
                )
            })?;
        }
        let now_led = self.led.get(&part).is_none_or(|led| *led < sent.sent_ms);
        if !now_led {
            // Perhaps from the leader before.
            fate.uncertain += 1;
            holds(count <= group.deliveries_max, Rule::CountIsTrue, || {
                format!("{} is above the limit", what())
            })?;
        }
        let earlier = fate.deliveries.iter();
        let certain = earlier.filter(|of| of.counts && of.at_ms <= sent.sent_ms);
        let least = 1 + certain.count();
        let most = 1 + fate.counts.len() + fate.uncertain + group.unanswered.len();
        let counted = usize::try_from(count).is_ok_and(|count| (least..=most).contains(&count));
        let new = !fate.counts.contains(&count) && count <= group.deliveries_max;
        holds(counted && new || !now_led, Rule::CountIsTrue, || {
            format!(
                "{} was delivered between {least} and {most} times, with the counts {:?} before; {} are allowed",
                what(),
                fate.counts,
                group.deliveries_max
            )
        })?;
        for delivery in &fate.deliveries {
            let by = delivery.session.0;
            let goes_on = self
                .alive
                .get(&delivery.session)
                .is_some_and(|until| *until > now);
            let locked = !delivery.over
                && delivery.at_ms <= sent.sent_ms
                && delivery.until_ms > now
                && goes_on;
            holds(!locked, Rule::OneHolder, || {
                format!(
                    "{} is locked for m{by}, which asked for it {} ms ago and has not said what becomes of it",
                    what(),
                    now - delivery.asked_ms
                )
            })?;
        }
        for earlier in &mut fate.deliveries {
            earlier.over |= earlier.at_ms <= sent.sent_ms;
        }
        fate.highest = fate.highest.max(count);
        if now_led {
            fate.counts.insert(count);
        }
        fate.deliveries.push(Delivery {
            session: sent.session,
            asked_ms: sent.sent_ms,
            at_ms: now,
            until_ms: sent.sent_ms + group.lock_ms,
            counts: now_led,
            over: !now_led,
        });
        let lock = now + group.lock_ms;
        if let Some(sharer) = self.members.get_mut(&member) {
            sharer
                .holding
                .acquired((part, offset, node), count, lock, now);
        }
        Ok(())
    }

    /// Another node may lead the partition.
    fn led(&mut self, part: Part) {
        self.led.insert(part, self.now);
        let logs = self.groups.values_mut().flat_map(|group| &mut group.log);
        for (_, fate) in logs.filter(|((of, _), _)| *of == part) {
            fate.uncertain += fate.counts.len();
            fate.counts.clear();
            fate.deliveries.clear();
        }
    }

    /// The group is done with all before this.
    fn passed(&mut self, group: u8, part: Part, before: i64) -> Outcome {
        let start = self.starts.get(&part).copied().unwrap_or(0);
        let Some(of) = self.groups.get(&group) else {
            return Ok(());
        };
        let limit = usize::try_from(of.deliveries_max).unwrap_or(0);
        for offset in self.truth.between(part, start, before) {
            let fate = of.log.get(&(part, offset));
            let done = fate.is_some_and(|fate| {
                let unseen = of.unanswered.len();
                let most = usize::try_from(fate.highest).unwrap_or(0) + unseen;
                let tried = most >= limit;
                fate.done_ms.is_some() || !fate.perhaps.is_empty() || tried
            });
            let unseen = fate.is_none() && of.unanswered.len() >= limit;
            holds(done || unseen, Rule::NothingLost, || {
                let counts = fate.map(|fate| &fate.counts);
                format!(
                    "share group {group} is done with {part} before {before}, and nobody has accepted or rejected the \
                     record at {offset}, which was delivered as {counts:?}"
                )
            })?;
        }
        Ok(())
    }
}

/// Whether it ends a record's time in the group.
fn is_final(kind: i8) -> bool {
    matches!(kind, ACCEPT | REJECT | GAP)
}

fn holds(holds: bool, rule: Rule, problem: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err((rule, problem()))
    }
}

/// When each session was last sent a request that was answered as one of that session.
fn sessions_alive(events: &[history::Event]) -> BTreeMap<Session, u64> {
    let mut sessions: BTreeMap<(Member, i32), u32> = BTreeMap::new();
    let mut asked: BTreeMap<u64, (Session, u64)> = BTreeMap::new();
    let mut alive = BTreeMap::new();
    for event in events {
        match &event.what {
            What::Shared(Event::Asks(request)) => {
                let Request { member, node, .. } = *request;
                let session = sessions.entry((member, node)).or_default();
                *session += u32::from(request.epoch == 0);
                if request.epoch > 0 {
                    let session = (member, node, *session);
                    asked.insert(request.number, (session, event.at_ms));
                }
            }
            What::Shared(Event::Answered(answer)) if answer.error == 0 => {
                if let Some((session, sent_ms)) = asked.remove(&answer.number) {
                    let until: &mut u64 = alive.entry(session).or_default();
                    *until = sent_ms.max(*until);
                }
            }
            _ => {}
        }
    }
    alive
}
