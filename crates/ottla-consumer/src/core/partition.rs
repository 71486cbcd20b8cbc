//! One assigned partition: where its reader is, what was fetched ahead of it, what stands in the way.

use std::{collections::VecDeque, time::Instant};

use ottla_wire::Uuid;

use super::{LeaseId, Token};
use crate::{Error, Offset, Str, TopicPartition};

/// A place in a log, and the leader epoch of the record before it (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
}

impl Position {
    pub(crate) fn at(offset: i64) -> Self {
        Self {
            offset,
            leader_epoch: None,
        }
    }
}

/// Behind an entry that leads nowhere: nothing more is fetched until it has been dealt with.
pub(crate) const NOWHERE: Position = Position {
    offset: -1,
    leader_epoch: None,
};

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) node: i32,
    /// -1 if the broker is too old to say.
    pub(crate) epoch: i32,
    /// Zero if the broker is too old to say.
    pub(crate) topic_id: Uuid,
}

/// What is known about where to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The place is described, its offset is still to be found out.
    Locating(Offset),
    /// The position stems from an earlier leader epoch: the leader is asked whether its log agrees.
    Validating,
    /// `consumed` and `fetched` are known.
    Fetching,
    /// Nothing is fetched until the application seeks; the error was, or will be, handed out.
    Stopped,
}

/// A batch that waits to be handed out. `D` is its data, which the core never looks into.
#[derive(Debug)]
pub(crate) struct Entry<D> {
    pub(crate) body: Body<D>,
    /// Where reading goes on behind it.
    pub(crate) next: Position,
    /// What it occupies of the budget.
    pub(crate) bytes: usize,
}

impl<D> Entry<D> {
    /// Its batch for a worker, which brings it back under `number`; if it is one that is not decoded, and worth it.
    pub(crate) fn send_away(&mut self, number: u64, worth: impl Fn(&D) -> bool) -> Option<D> {
        if !matches!(&self.body, Body::Batch(data, 0) if worth(data)) {
            return None;
        }
        match std::mem::replace(&mut self.body, Body::Away(number)) {
            Body::Batch(data, _) => Some(data),
            _ => None,
        }
    }

    /// What it occupies because it was decoded ahead.
    pub(crate) fn ahead(&self) -> usize {
        match self.body {
            Body::Batch(_, ahead) => ahead,
            _ => 0,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Body<D> {
    /// With how much it occupies because it was decoded ahead of the application; 0 if it was not.
    Batch(D, usize),
    /// Given to a worker, which brings it back under this number.
    Away(u64),
    /// No records for the application: control batches, aborted ones.
    Nothing,
    /// The log does not have the offset that was fetched.
    OutOfRange,
    /// The log ends here, for now.
    End,
}

#[derive(Debug)]
pub(crate) struct Partition<D> {
    pub(crate) name: TopicPartition,
    /// Changes with every assign, seek and reset.
    pub(crate) token: Token,
    /// Tells this assignment, and this topic of that name, from those before: not changed by seeks and resets.
    pub(crate) since: u64,
    pub(crate) phase: Phase,
    pub(crate) paused: bool,
    /// Nothing is handed out until whoever holds it says so: the group is giving it up, or the application's listener
    /// is being told of it.
    pub(crate) held: Option<u64>,
    /// Who alone is handed its records, where partitions are read one by one.
    pub(crate) lease: Option<LeaseId>,
    /// It is to be given up: nobody else may have it.
    pub(crate) lease_over: bool,
    /// What its latest reader was not told before it let go: the next one is.
    pub(crate) untold: Vec<Error>,
    /// Whether its broker is, or will be, asked for more of it.
    pub(crate) wanted: bool,
    /// The next offset to hand out. Meaningless while `phase` is `Locating`.
    pub(crate) consumed: Position,
    /// The next offset to commit automatically: behind what the application was handed before its
    /// latest call for records. None: nothing to commit.
    pub(crate) processed: Option<Position>,
    /// What was committed or is being committed by the timer, so that it need not be again.
    pub(crate) auto_committed: Option<i64>,
    /// What the application stored along with `processed`.
    pub(crate) stored_metadata: Str,
    /// What the application committed itself, and nothing before that is committed automatically.
    pub(crate) by_hand: Option<ByHand>,
    /// Where the application was, or will be, told of the end of the log.
    pub(crate) end_told: Option<i64>,
    /// The next offset to fetch: behind the last of `queue`.
    pub(crate) fetched: Position,
    pub(crate) queue: VecDeque<Entry<D>>,
    /// Sum over `queue`.
    pub(crate) queued_bytes: usize,
    /// The part of it that was decoded ahead.
    pub(crate) ahead_bytes: usize,
    /// Whether it is in the core's `ready`.
    pub(crate) in_ready: bool,
    pub(crate) leader: Option<Leader>,
    /// The follower to read from instead (KIP-392), and until when that advice holds.
    pub(crate) preferred: Option<(i32, Instant)>,
    /// Neither fetched nor asked for offsets before then.
    pub(crate) retry_at: Option<Instant>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// How often in a row the next batch could not be read.
    pub(crate) unreadable: u32,
    /// How often in a row the log did not have the position that the policy led to.
    pub(crate) resets: u32,
    /// Whether an answer about its position is being waited for.
    pub(crate) asking: bool,
    /// Numbers the questions about its position: only the latest one's answer counts.
    pub(crate) asked: u64,
    /// The epoch of the leader whose log is known to agree with `fetched`; none if that was not asked, and what
    /// `fetched` says of its own epoch is all there is.
    pub(crate) agrees: Option<i32>,
    pub(crate) watermarks: Option<Watermarks>,
}

/// An offset that the application committed itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByHand {
    pub(crate) offset: i64,
    /// Whether the commit failed in a way that leaves open if it was stored.
    pub(crate) doubtful: bool,
}

/// The ends of a partition's log, as the latest answer to a fetch told them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset the log still holds; -1 if the broker is too old to say.
    pub low: i64,
    /// One past the last record that is replicated.
    pub high: i64,
    /// One past the last record that is not part of an open transaction: where a consumer
    /// that reads committed records stops.
    pub last_stable: i64,
}

impl<D> Partition<D> {
    pub(crate) fn new(name: TopicPartition, token: Token, start: Offset) -> Self {
        let mut partition = Self {
            name,
            since: token.generation,
            token,
            phase: Phase::Stopped,
            paused: false,
            held: None,
            lease: None,
            lease_over: false,
            untold: Vec::new(),
            wanted: false,
            consumed: Position::at(0),
            processed: None,
            auto_committed: None,
            stored_metadata: Str::new(),
            by_hand: None,
            end_told: None,
            fetched: Position::at(0),
            queue: VecDeque::new(),
            queued_bytes: 0,
            ahead_bytes: 0,
            in_ready: false,
            leader: None,
            preferred: None,
            retry_at: None,
            failures: 0,
            unreadable: 0,
            resets: 0,
            asking: false,
            asked: 0,
            agrees: None,
            watermarks: None,
        };
        partition.start_at(start);
        partition
    }

    /// Forgets the position and starts over; the token must be new.
    pub(crate) fn start_at(&mut self, start: Offset) {
        self.by_hand = None;
        // The group may have another offset by the time it is there again; in a topic created anew it is another record's.
        self.auto_committed = None;
        self.end_told = None;
        self.asking = false;
        self.retry_at = None;
        self.failures = 0;
        match start {
            Offset::At(offset) => self.settle(Position::at(offset)),
            to_find => self.phase = Phase::Locating(to_find),
        }
    }

    /// The position is known: reading starts there.
    pub(crate) fn settle(&mut self, position: Position) {
        self.phase = Phase::Fetching;
        self.agrees = None;
        self.consumed = position;
        self.fetched = position;
        self.asking = false;
        self.retry_at = None;
        self.failures = 0;
    }

    /// Whether `leader` has to be asked first if its log is the one that the position is from (KIP-320): it may have been
    /// truncated, or be another one altogether.
    pub(crate) fn is_doubtful(&self, leader: Option<Leader>) -> bool {
        let (Some(epoch), Some(leader)) = (self.fetched.leader_epoch, leader) else {
            return false;
        };
        matches!(self.phase, Phase::Fetching)
            && leader.epoch >= 0
            && leader.epoch != epoch
            && self.agrees != Some(leader.epoch)
    }

    /// The broker it is fetched from.
    pub(crate) fn source(&self) -> Option<i32> {
        let preferred = self.preferred.map(|(node, _)| node);
        preferred.or(self.leader.map(|leader| leader.node))
    }

    /// Puts an entry behind the others. Stretches of a log that hold nothing for the application become
    /// one entry, so that a long one takes no memory.
    pub(crate) fn enqueue(&mut self, entry: Entry<D>) {
        match (&entry.body, self.queue.back_mut()) {
            (Body::Nothing, Some(last)) if matches!(last.body, Body::Nothing) => {
                last.next = entry.next;
                last.bytes += entry.bytes;
            }
            _ => self.queue.push_back(entry),
        }
    }

    /// Has the application told when it gets here that it is the end, unless it was.
    pub(crate) fn note_end(&mut self, committed_only: bool) -> bool {
        let at = self.fetched.offset;
        let ended = self.watermarks.is_some_and(|marks| {
            let end = if committed_only {
                marks.last_stable
            } else {
                marks.high
            };
            end >= 0 && at >= end
        });
        if !ended || self.end_told == Some(at) {
            return false;
        }
        self.end_told = Some(at);
        self.queue.push_back(Entry {
            body: Body::End,
            next: self.fetched,
            bytes: 0,
        });
        true
    }

    /// Whether automatic commit may write this offset: not one from before what the application committed itself.
    pub(crate) fn may_auto_commit(&self, offset: i64) -> bool {
        self.by_hand.is_none_or(|own| {
            let again = offset == own.offset && own.doubtful;
            offset > own.offset || again
        })
    }

    /// Whether `consumed` means anything.
    pub(crate) fn located(&self) -> bool {
        match self.phase {
            Phase::Fetching | Phase::Validating => true,
            Phase::Locating(_) | Phase::Stopped => false,
        }
    }

    /// Whether the entry at the head of the queue can be handed out or dealt with.
    pub(crate) fn deliverable(&self) -> bool {
        !self.paused
            && self.held.is_none()
            && self.located()
            && self
                .queue
                .front()
                .is_some_and(|entry| !matches!(entry.body, Body::Away(_)))
    }
}
