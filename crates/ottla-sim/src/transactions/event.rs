//! What happened to transactions and their readers, as applications saw it, and at the end what the logs hold.

use std::fmt;

use crate::history::{Id, Member, Part};

/// A transaction of the run; numbers are never used twice. Its records' ids carry it.
pub(crate) type Tx = u32;

/// What an application may say of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Committed,
    /// It is not committed and, unless it is asked for again, never will be.
    NotCommitted,
    /// Nobody said, or an error said that it may be either.
    Unknown,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// An instance of a transactional id asks for its producer id; `client` is its number on the network.
    Starting {
        instance: Member,
        client: u32,
        name: u8,
        timeout_ms: u64,
    },
    /// It got it: older instances are fenced.
    Started {
        instance: Member,
    },
    Began {
        instance: Member,
        tx: Tx,
    },
    /// A record is sent; `of` is the place of the record that it was made of.
    Offered {
        id: u64,
        part: Part,
        of: Option<(Part, i64)>,
    },
    /// The producer took it.
    Accepted {
        id: u64,
    },
    /// A broker acknowledged it.
    Delivered {
        id: u64,
        offset: i64,
    },
    /// Positions of a group are sent as part of the transaction.
    Offsets {
        tx: Tx,
        group: u8,
        offsets: Vec<(Part, i64)>,
    },
    /// The application asks for the commit.
    Committing {
        tx: Tx,
    },
    Told {
        tx: Tx,
        outcome: Outcome,
    },
    /// An error said that the instance can do nothing more.
    Fatal {
        instance: Member,
        error: String,
    },
    /// A reader goes to an offset.
    Stands {
        reader: Member,
        part: Part,
        offset: i64,
        committed: bool,
    },
    /// It is handed a record.
    Read {
        reader: Member,
        part: Part,
        offset: i64,
        id: u64,
    },
    /// It says that this is its position.
    Position {
        reader: Member,
        part: Part,
        offset: i64,
    },
    /// From here on it is told what the logs and groups hold, after everything has ended.
    Settled,
    /// A record stands in the log.
    Stored {
        part: Part,
        offset: i64,
        id: u64,
        producer: i64,
    },
    /// The marker of a transaction's end does.
    Marked {
        part: Part,
        offset: i64,
        producer: i64,
        commit: bool,
    },
    /// What a group has committed.
    GroupAt {
        group: u8,
        part: Part,
        offset: Option<i64>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting {
                instance,
                client,
                name,
                timeout_ms,
            } => write!(
                f,
                "i{instance} starts as tx-{name} on c{client}, transactions of {timeout_ms} ms"
            ),
            Self::Started { instance } => write!(f, "i{instance} has started"),
            Self::Began { instance, tx } => write!(f, "i{instance} begins t{tx}"),
            Self::Offered { id, part, of: None } => write!(f, "{} is sent to {part}", Id(*id)),
            Self::Offered {
                id,
                part,
                of: Some((from, offset)),
            } => write!(f, "{} is sent to {part}, made of {from}@{offset}", Id(*id)),
            Self::Accepted { id } => write!(f, "{} is taken", Id(*id)),
            Self::Delivered { id, offset } => write!(f, "{} is delivered at {offset}", Id(*id)),
            Self::Offsets { tx, group, offsets } => {
                write!(f, "t{tx} takes g{group} to")?;
                for (part, offset) in offsets {
                    write!(f, " {part}@{offset}")?;
                }
                Ok(())
            }
            Self::Committing { tx } => write!(f, "t{tx} is to commit"),
            Self::Told { tx, outcome } => write!(f, "t{tx} is {outcome:?}"),
            Self::Fatal { instance, error } => write!(f, "i{instance} is done for: {error}"),
            Self::Stands {
                reader,
                part,
                offset,
                committed,
            } => {
                let what = if *committed { "committed" } else { "all" };
                write!(f, "r{reader} goes to {part}@{offset}, reads {what}")
            }
            Self::Read {
                reader,
                part,
                offset,
                id,
            } => write!(f, "r{reader} gets {part}@{offset} = {}", Id(*id)),
            Self::Position {
                reader,
                part,
                offset,
            } => write!(f, "r{reader} is at {part}@{offset}"),
            Self::Settled => f.write_str("everything has ended; the logs hold"),
            Self::Stored {
                part,
                offset,
                id,
                producer,
            } => write!(f, "{part}@{offset} {} of producer {producer}", Id(*id)),
            Self::Marked {
                part,
                offset,
                producer,
                commit,
            } => {
                let what = if *commit { "commit" } else { "abort" };
                write!(f, "{part}@{offset} {what} of producer {producer}")
            }
            Self::GroupAt {
                group,
                part,
                offset,
            } => write!(f, "g{group} has committed {part} at {offset:?}"),
        }
    }
}
