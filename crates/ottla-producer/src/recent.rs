//! The topics that a thread sent to lately, so that one record after the other finds its topic without an atomic write and without
//! hashing its name.
//!
//! Owns one reference to each of a few topics per thread; never decides what a topic is: an entry counts only while its producer's
//! table of topics is the one it was read from. An entry outlives its producer until another takes its place or the thread
//! ends, and then holds the names and empty queues of one topic, no records.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::Client;
use crate::topics::Topic;

/// Tells the tables of topics of all producers of this process apart, in all their states.
#[derive(Debug)]
pub(crate) struct TableVersion(AtomicU64);

impl TableVersion {
    /// Of a table that nobody has read yet.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(next()))
    }

    /// The table was replaced.
    pub(crate) fn replaced(&self) {
        self.0.store(next(), Ordering::Release);
    }

    #[inline]
    fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The topic of this name that `client` knows, if it does. To be given back.
#[inline]
pub(crate) fn borrow(client: &Client, name: &str) -> Option<Recent> {
    // Before the table is read: an entry may be newer than it says, never older.
    let version = client.topics_version.current();
    // Nothing there: while it is borrowed, and a partitioner sends records itself; and while the thread ends.
    let recent = RECENT.try_with(|recent| recent[place(name)].take());
    match recent.ok().flatten() {
        Some(recent) if recent.version == version && *recent.topic.shared.name == *name => {
            Some(recent)
        }
        _ => look_up(client, name, version),
    }
}

/// Keeps what was [borrowed](borrow) for the thread's next record. A function and not a drop: this way the compiler sees through it.
#[inline]
pub(crate) fn give_back(recent: Recent, name: &str) {
    // While the thread ends nothing is kept.
    let _ = RECENT.try_with(|places| places[place(name)].set(Some(recent)));
}

#[cold]
#[inline(never)]
fn look_up(client: &Client, name: &str, version: u64) -> Option<Recent> {
    let topic = client.topics.load().by_name.get(name)?.clone();
    Some(Recent { version, topic })
}

/// A topic, and the table of topics it was read from.
pub(crate) struct Recent {
    version: u64,
    pub(crate) topic: Arc<Topic>,
}

/// Names that differ in length or at the end, as most do that are used side by side, have places of their own.
#[inline]
fn place(name: &str) -> usize {
    let last = name.as_bytes().last().copied().unwrap_or(0);
    (usize::from(last) + name.len()) % PLACES
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    static RECENT: [Cell<Option<Recent>>; PLACES] = const { [const { Cell::new(None) }; PLACES] };
}

const PLACES: usize = 8;
