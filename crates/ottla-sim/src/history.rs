//! What happened in a run, in order: what applications did and were told, and what coordinators told members.
//!
//! Plain data. Scenarios and the network write it, [`crate::checker`] judges it, a person reads it as a trace. Times
//! are milliseconds of the run's own clock.

mod beats;
mod timed;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Mutex;

use ottla_wire::Uuid;
use tokio::time::Instant;

pub(crate) use self::beats::{Beat, Beaten};
use crate::faults::FaultKind;
use crate::{share, transactions};

/// One consumer from its making to its end, or a turn of it under one subscription; numbers are never used twice.
pub(crate) type Member = u32;

/// A partition, as a number of a topic and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Part {
    pub(crate) topic: u8,
    pub(crate) partition: i32,
}

impl Part {
    pub(crate) fn topic_name(self) -> String {
        format!("sim-{}", self.topic)
    }

    /// The partition of a topic with a name of that kind.
    pub(crate) fn named(topic: &str, partition: i32) -> Option<Self> {
        let topic = topic.strip_prefix("sim-")?.parse().ok()?;
        Some(Self { topic, partition })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim-{}-{}", self.topic, self.partition)
    }
}

/// Where reading is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Start {
    /// At the first record at or behind an offset.
    At(i64),
    /// At the first record there is; the log began at this offset when that was asked for.
    Beginning(i64),
    /// Behind the last record; the log ended at this offset when that was asked for.
    End(i64),
    /// So many records before the end, which was at this offset when that was asked for.
    Tail(u64, i64),
    /// At the first record with this timestamp or a later one; the log ended there when that was asked for.
    Time(i64, i64),
    /// Where the group committed; else where `auto.offset.reset` says.
    Committed,
}

/// `auto.offset.reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reset {
    Earliest,
    Latest,
    Fail,
}

/// How a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Closed,
    Dropped,
    Crashed,
    Unsubscribed,
}

/// What kind of member it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    /// Keeps through a rebalance what it is not told to give up (KIP-429).
    pub(crate) cooperative: bool,
    /// A static member (KIP-345), by its number: whoever comes under the same number takes its place.
    pub(crate) instance: Option<u32>,
    /// For how long a coordinator of the classic protocol waits for it at least, be it silent or slow to join again.
    pub(crate) patience_ms: u64,
    /// Has a rebalance listener.
    pub(crate) listens: bool,
    /// Is a member by the consumer protocol (KIP-848).
    pub(crate) consumer: Option<ConsumerTerms>,
}

/// What else the coordinator knows of a member by the consumer protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConsumerTerms {
    /// `group.consumer.session.timeout.ms`
    pub(crate) session_ms: u64,
    /// Of its `max.poll.interval.ms`: how long it may take to give something up.
    pub(crate) rebalance_ms: u64,
}

/// What a member's rebalance listener is told about partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum News {
    Assigned,
    Revoked,
    Lost {
        /// The application had not come for longer than it may.
        stayed_away: bool,
    },
}

/// What a coordinator's answer said against a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Verdict {
    pub(crate) generation: i32,
    pub(crate) error: i16,
    /// It answered to a join or sync, not to a heartbeat or commit.
    pub(crate) rebalancing: bool,
}

/// What a member that joins says that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Claims {
    pub(crate) parts: Vec<Part>,
    /// The generation of the assignment that it goes by.
    pub(crate) generation: i32,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// Something went wrong.
    Fault(FaultKind),
    /// A word for the reader of the trace.
    Note(String),
    /// A member of a group began.
    Subscribed {
        member: Member,
        group: u8,
        reset: Reset,
        terms: Terms,
    },
    /// A consumer took partitions by hand. Replaces what it had.
    Assigned {
        member: Member,
        group: Option<u8>,
        reset: Reset,
        starts: Vec<(Part, Start)>,
    },
    /// The application is done with all it was handed so far: it came for more, commits, or closes.
    Done {
        member: Member,
    },
    /// The same of one partition.
    DoneOf {
        member: Member,
        part: Part,
    },
    /// Whoever reads one partition lets go of it: what it has and is not done with comes again.
    GivenBack {
        member: Member,
        part: Part,
    },
    /// A record was handed out, under this generation.
    Delivered {
        member: Member,
        generation: i32,
        part: Part,
        offset: i64,
        id: u64,
    },
    /// The consumer said that this is its position.
    Position {
        member: Member,
        part: Part,
        offset: i64,
    },
    Sought {
        member: Member,
        part: Part,
        to: Start,
    },
    Paused {
        member: Member,
        part: Part,
    },
    Resumed {
        member: Member,
        part: Part,
    },
    Ended {
        member: Member,
        how: End,
    },
    /// The application asked for a commit of all positions, under this number.
    CommitCalled {
        member: Member,
        number: u64,
        positions: Vec<(Part, i64)>,
    },
    /// That commit was acknowledged.
    CommitAcked {
        member: Member,
        number: u64,
    },
    /// A commit left for the coordinator, under a number of its own.
    CommitSent {
        member: Member,
        number: u64,
        /// Under which member id.
        id: String,
        offsets: Vec<(Part, i64)>,
    },
    /// Its answer arrived, good or bad: nothing of it happens later.
    CommitAnswered {
        number: u64,
        /// What is stored.
        stored: Vec<Part>,
    },
    /// The member asked to join, in words that may have waited to leave since then, and said what it still had.
    Joins {
        member: Member,
        queued_ms: u64,
        /// Under which member id; none if it has to be given one.
        id: String,
        claims: Claims,
    },
    /// It was told that this is the next generation, in answer to a join that said what it had.
    Joined {
        member: Member,
        generation: i32,
        /// The member id that it has from now on.
        id: String,
        claims: Claims,
    },
    /// The coordinator gave the member its partitions.
    Synced {
        member: Member,
        generation: i32,
        /// When it asked for them.
        sent_ms: u64,
        parts: Vec<Part>,
        /// In good time: it surely still waited for the answer.
        heeded: bool,
    },
    /// The member's rebalance listener was called.
    Heard {
        member: Member,
        news: News,
        parts: Vec<Part>,
    },
    /// The listener's call that told it of a revocation has ended.
    HeardOut {
        member: Member,
        parts: Vec<Part>,
    },
    /// A call that told a listener of an end was cut short, by the caller of what called it: it does not count.
    CutShort {
        member: Member,
        news: News,
        parts: Vec<Part>,
    },
    /// The application is about to unsubscribe or close: all the member has is given up.
    Leaves {
        member: Member,
    },
    /// A LeaveGroup left it.
    Left {
        member: Member,
    },
    /// The coordinator told the member that it has to give up what it has.
    Told {
        member: Member,
        /// Under which member id it had asked.
        id: String,
        verdict: Verdict,
        /// In good time: it surely still waited for the answer.
        heeded: bool,
    },
    /// The coordinator answered to a heartbeat, sent then, that all is well.
    Confirmed {
        member: Member,
        generation: i32,
        sent_ms: u64,
    },
    /// A heartbeat of the consumer protocol left.
    Beats(Beat),
    /// And this was its answer.
    Beaten(Beaten),
    /// A question for committed offsets left.
    Asked {
        member: Member,
        number: u64,
    },
    /// And this was its answer for one partition.
    Committed {
        member: Member,
        number: u64,
        part: Part,
        offset: Option<i64>,
    },
    /// A partition has, or may have, another leader from now on.
    Led {
        part: Part,
    },
    /// The first records of a log were deleted.
    LogStart {
        part: Part,
        offset: i64,
    },
    /// A call ended, or was given up on.
    Called {
        member: Member,
        name: &'static str,
        took_ms: u64,
        allowed_ms: u64,
    },
    /// In fair weather the member waited for records while some lay ready for it.
    Overslept {
        member: Member,
        part: Part,
    },
    /// At the end, the group's committed offset.
    FinallyCommitted {
        group: u8,
        part: Part,
        offset: Option<i64>,
    },
    /// What transactions and their readers are about.
    Transactional(transactions::Event),
    /// What share groups are about.
    Shared(share::Event),
    /// A frame left a client.
    Sent {
        client: u32,
        node: i32,
        api: &'static str,
        correlation: i32,
    },
    /// A frame reached a client.
    Got {
        client: u32,
        node: i32,
        api: &'static str,
        correlation: i32,
        error: i16,
    },
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) at_ms: u64,
    pub(crate) what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>4}.{:03} {}",
            self.at_ms / 1000,
            self.at_ms % 1000,
            self.what
        )
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(kind) => write!(f, "FAULT {kind:?}"),
            Self::Note(note) => write!(f, "---- {note}"),
            Self::Subscribed {
                member,
                group,
                reset,
                terms,
            } => {
                let how = match terms.consumer {
                    Some(_) => "by the consumer protocol",
                    None if terms.cooperative => "cooperative",
                    None => "eager",
                };
                write!(f, "m{member} subscribes in g{group}, {how}")?;
                if let Some(instance) = terms.instance {
                    write!(f, ", as instance {instance}")?;
                }
                let listens = if terms.listens { ", listens" } else { "" };
                write!(f, "{listens}, reset {reset:?}")
            }
            Self::Assigned {
                member,
                group,
                reset,
                starts,
            } => {
                write!(f, "m{member} takes")?;
                for (part, start) in starts {
                    write!(f, " {part} at {start:?}")?;
                }
                write!(f, ", group {group:?}, reset {reset:?}")
            }
            Self::Done { member } => write!(f, "m{member} is done with what it has"),
            Self::DoneOf { member, part } => {
                write!(f, "m{member} is done with what it has of {part}")
            }
            Self::GivenBack { member, part } => write!(f, "the reader of {part} of m{member} ends"),
            Self::Delivered {
                member,
                generation,
                part,
                offset,
                id,
            } => write!(
                f,
                "m{member} gets {part}@{offset} = {} in generation {generation}",
                Id(*id)
            ),
            Self::Position {
                member,
                part,
                offset,
            } => write!(f, "m{member} is at {part}@{offset}"),
            Self::Sought { member, part, to } => write!(f, "m{member} seeks {part} to {to:?}"),
            Self::Paused { member, part } => write!(f, "m{member} pauses {part}"),
            Self::Resumed { member, part } => write!(f, "m{member} resumes {part}"),
            Self::Ended { member, how } => write!(f, "m{member} ends: {how:?}"),
            Self::CommitCalled {
                member,
                number,
                positions,
            } => {
                write!(f, "m{member} commits (#{number})")?;
                list(f, positions)
            }
            Self::CommitAcked { member, number } => {
                write!(f, "m{member} is told that #{number} is committed")
            }
            Self::CommitSent {
                member,
                number,
                offsets,
                ..
            } => {
                write!(f, "m{member} sends commit {number}:")?;
                list(f, offsets)
            }
            Self::CommitAnswered { number, stored } => {
                write!(f, "commit {number} is answered, stored:")?;
                parts(f, stored)
            }
            Self::Joins {
                member, id, claims, ..
            } => {
                write!(f, "m{member} joins as {id:?} with")?;
                parts(f, &claims.parts)?;
                write!(f, " of generation {}", claims.generation)
            }
            Self::Joined {
                member,
                generation,
                id,
                ..
            } => write!(f, "m{member} has joined generation {generation} as {id:?}"),
            Self::Heard {
                member,
                news,
                parts: told,
            } => {
                write!(f, "m{member} hears {news:?}")?;
                parts(f, told)
            }
            Self::HeardOut {
                member,
                parts: told,
            } => {
                write!(f, "m{member} has dealt with the end of")?;
                parts(f, told)
            }
            Self::CutShort {
                member,
                news,
                parts: told,
            } => {
                write!(f, "m{member} has not heard {news:?} to its end:")?;
                parts(f, told)
            }
            Self::Leaves { member } => write!(f, "m{member} leaves"),
            Self::Left { member } => write!(f, "m{member} tells its coordinator that it leaves"),
            Self::Synced {
                member,
                generation,
                sent_ms: _,
                parts: given,
                heeded,
            } => {
                write!(f, "m{member} is given")?;
                parts(f, given)?;
                let late = if *heeded { "" } else { ", late" };
                write!(f, " in generation {generation}{late}")
            }
            Self::Told {
                member,
                id,
                verdict,
                heeded,
            } => write!(
                f,
                "m{member} is told {} about generation {} as {id:?}{}",
                ottla_wire::ErrorCode(verdict.error),
                verdict.generation,
                if *heeded { "" } else { ", late" }
            ),
            Self::Confirmed {
                member, generation, ..
            } => write!(f, "m{member} is confirmed in generation {generation}"),
            Self::Beats(beat) => beat.fmt(f),
            Self::Beaten(beaten) => beaten.fmt(f),
            Self::Asked { member, number } => {
                write!(f, "m{member} asks for committed offsets ({number})")
            }
            Self::Committed {
                member,
                number,
                part,
                offset,
            } => write!(
                f,
                "m{member} learns ({number}) that {part} is committed at {offset:?}"
            ),
            Self::Led { part } => write!(f, "{part} may have another leader"),
            Self::LogStart { part, offset } => write!(f, "{part} now starts at {offset}"),
            Self::Called {
                member,
                name,
                took_ms,
                allowed_ms,
            } => write!(f, "m{member}: {name} took {took_ms} ms of {allowed_ms}"),
            Self::Overslept { member, part } => {
                write!(f, "m{member} slept while {part} had records")
            }
            Self::FinallyCommitted {
                group,
                part,
                offset,
            } => write!(f, "g{group} has committed {part} at {offset:?}"),
            Self::Transactional(event) => event.fmt(f),
            Self::Shared(event) => event.fmt(f),
            Self::Sent {
                client,
                node,
                api,
                correlation,
            } => write!(f, "c{client} -> n{node} {api} {correlation}"),
            Self::Got {
                client,
                node,
                api,
                correlation,
                error,
            } => {
                write!(f, "c{client} <- n{node} {api} {correlation}")?;
                match error {
                    0 => Ok(()),
                    error => write!(f, " {}", ottla_wire::ErrorCode(*error)),
                }
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, offsets: &[(Part, i64)]) -> fmt::Result {
    let mut offsets = offsets.iter();
    offsets.try_for_each(|(part, offset)| write!(f, " {part}@{offset}"))
}

fn parts(f: &mut fmt::Formatter<'_>, parts: &[Part]) -> fmt::Result {
    parts.iter().try_for_each(|part| write!(f, " {part}"))
}

/// What a record is known by: its writer and its number among the writer's.
pub(crate) fn record_id(writer: u32, number: u32) -> u64 {
    u64::from(writer) << 32 | u64::from(number)
}

/// A record's id, as people read it.
pub(crate) struct Id(pub(crate) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}/{}", self.0 >> 32, self.0 as u32)
    }
}

/// Takes events down.
#[derive(Debug)]
pub(crate) struct History {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    /// How many events there were when somebody was ended who went round in circles.
    calm_since: usize,
    members: Member,
    numbers: u64,
    /// Topics by the ids that coordinators use for them.
    topics: BTreeMap<Uuid, u8>,
}

impl History {
    /// Starts now, by tokio's clock.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            inner: Mutex::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// What to stamp a record with. By the time of the machine, batches would be of other sizes every time.
    pub(crate) fn timestamp(&self) -> i64 {
        self.now_ms() as i64
    }

    pub(crate) fn record(&self, what: What) {
        let at_ms = self.now_ms();
        let mut inner = self.lock();
        let count = inner.events.len();
        let long_ago = count.checked_sub(BUSY_EVENTS);
        let long_ago = long_ago.filter(|index| *index >= inner.calm_since);
        if long_ago.is_some_and(|index| inner.events[index].at_ms == at_ms) {
            // Whoever comes next in this millisecond did nothing wrong yet.
            inner.calm_since = count;
            drop(inner);
            // It ends the task that goes round in circles, and the run hears of it.
            panic!("a busy loop: {BUSY_EVENTS} events in one millisecond, the last: {what}");
        }
        inner.events.push(Event { at_ms, what });
    }

    pub(crate) fn note(&self, note: impl Into<String>) {
        self.record(What::Note(note.into()));
    }

    pub(crate) fn new_member(&self) -> Member {
        let mut inner = self.lock();
        inner.members += 1;
        inner.members
    }

    /// A number that nothing else in this history has.
    pub(crate) fn new_number(&self) -> u64 {
        let mut inner = self.lock();
        inner.numbers += 1;
        inner.numbers
    }

    /// Says under which id coordinators know a topic.
    pub(crate) fn name_topic(&self, id: Uuid, topic: u8) {
        self.lock().topics.insert(id, topic);
    }

    /// The partition of a topic with this id.
    pub(crate) fn part(&self, id: Uuid, partition: i32) -> Option<Part> {
        let topic = *self.lock().topics.get(&id)?;
        Some(Part { topic, partition })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic while it was held would have ended the run.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Two runs of a seed have the same.
pub(crate) fn hash(events: &[Event]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    events.hash(&mut hasher);
    hasher.0
}

/// FNV-1a: the same on every machine and in every process, as std's default hasher is not.
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// So many events in one millisecond mean that somebody asks the same again and again.
const BUSY_EVENTS: usize = 50_000;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_goes_round_in_circles_is_ended_and_nobody_else() {
        let history = History::new();
        let turns = || {
            let circles =
                AssertUnwindSafe(|| (0..=BUSY_EVENTS).for_each(|_| history.note("again")));
            catch_unwind(circles)
        };
        turns().unwrap_err();
        history.note("the run ends");
        turns().unwrap_err();
    }
}
