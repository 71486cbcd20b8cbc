//! Judges a history of transactions: which promise it breaks, if any.
//!
//! A plain struct: events in order go in; after the last one, which say what the logs hold, the first broken promise
//! comes out. Whether a record is committed is read off the log itself: the next marker of its producer in that
//! partition decides. So neither the coordinator's word nor a reader's filter is taken for granted.
//!
//! A history that does not come to [`Event::Settled`] was broken off, for a reason that was told; only what needs no
//! log is judged of it.

mod readers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::readers::Readers;
use super::event::{Event, Outcome, Tx};
use crate::history::{self, Id, Member, Part, What};

/// A promise that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What stands in a log was sent there, and was not refused.
    WasSent,
    /// No record stands in the logs twice.
    NoDuplicate,
    /// Records of an instance stand in a partition in the order in which they were sent.
    InOrder,
    /// A delivered record stands where it was said to.
    StandsWhereDelivered,
    /// All records of a transaction are committed, or none.
    AllOrNothing,
    /// Every record of a transaction that was said to be committed is.
    CommittedStays,
    /// No record of a transaction that was said not to be committed, or whose commit nobody asked for, is.
    NotCommittedStays,
    /// Who asks for a commit after another instance has started does not get it.
    FencedForGood,
    /// Nobody is fenced for no reason.
    FatalForAReason,
    /// In the end no transaction is open.
    NothingStaysOpen,
    /// A group's positions move with the transactions that carry them, and only with them.
    OffsetsWithRecords,
    /// What a group has read by its committed positions was copied once, and nothing else was.
    CopiedOnce,
    /// A reader gets every record that it may see, from where it stands, in order and once.
    ReadsAll,
    /// A reader of what is committed gets nothing of transactions that are not.
    ReadsCommitted,
}

type Violation = crate::violation::Violation<Rule>;

/// Judges a whole history.
///
/// # Errors
/// A broken promise.
pub(crate) fn check(events: &[history::Event]) -> Result<(), Violation> {
    let mut judge = Judge::default();
    for (index, event) in events.iter().enumerate() {
        match &event.what {
            What::Transactional(what) => judge.take(index, event.at_ms, what)?,
            What::Sent { client, api, .. } if *api == "InitProducerId" => judge.asked(*client),
            _ => {}
        }
    }
    judge.end()
}

type Verdict = Result<(), Violation>;

#[derive(Debug, Default)]
struct Judge {
    instances: BTreeMap<Member, Instance>,
    transactions: BTreeMap<Tx, Transaction>,
    records: BTreeMap<u64, Sent>,
    readers: Readers,
    logs: BTreeMap<Part, Vec<Entry>>,
    group_at: Vec<(usize, u8, Part, Option<i64>)>,
    settled: bool,
}

#[derive(Debug)]
struct Instance {
    client: u32,
    name: u8,
    timeout_ms: u64,
    starting: usize,
    started: Option<usize>,
    /// How often it asked for a producer id before it had one.
    asked: u32,
    /// Its newest transaction, and when that began.
    newest: Option<u64>,
    /// A transaction of it was open for too long, maybe only in the background.
    overdue: bool,
}

#[derive(Debug)]
struct Transaction {
    instance: Member,
    /// When its commit was first asked for.
    committing: Option<usize>,
    told: Option<(usize, Outcome)>,
    offsets: Vec<(u8, Vec<(Part, i64)>)>,
}

/// A record, as its application knows it.
#[derive(Debug)]
struct Sent {
    part: Part,
    of: Option<(Part, i64)>,
    accepted: bool,
    delivered: Option<(usize, i64)>,
}

/// A record or marker of a log.
#[derive(Clone, Copy, Debug)]
struct Entry {
    index: usize,
    offset: i64,
    producer: i64,
    what: Logged,
}

#[derive(Clone, Copy, Debug)]
enum Logged {
    Record(u64),
    Marker { commit: bool },
}

/// A record that stands in a log.
#[derive(Clone, Copy, Debug)]
struct Stored {
    index: usize,
    part: Part,
    offset: i64,
    committed: bool,
}

impl Judge {
    fn take(&mut self, index: usize, now: u64, event: &Event) -> Verdict {
        match event {
            Event::Starting {
                instance,
                client,
                name,
                timeout_ms,
            } => {
                let new = Instance {
                    client: *client,
                    name: *name,
                    timeout_ms: *timeout_ms,
                    starting: index,
                    started: None,
                    asked: 0,
                    newest: None,
                    overdue: false,
                };
                self.instances.insert(*instance, new);
            }
            Event::Started { instance } => {
                if let Some(instance) = self.instances.get_mut(instance) {
                    instance.started = Some(index);
                }
            }
            Event::Began { instance, tx } => {
                if let Some(instance) = self.instances.get_mut(instance) {
                    instance.ends_by(now);
                    instance.newest = Some(now);
                }
                let new = Transaction {
                    instance: *instance,
                    committing: None,
                    told: None,
                    offsets: Vec::new(),
                };
                self.transactions.insert(*tx, new);
            }
            Event::Offered { id, part, of } => {
                let new = Sent {
                    part: *part,
                    of: *of,
                    accepted: false,
                    delivered: None,
                };
                self.records.insert(*id, new);
            }
            Event::Accepted { id } => {
                if let Some(record) = self.records.get_mut(id) {
                    record.accepted = true;
                }
            }
            Event::Delivered { id, offset } => {
                if let Some(record) = self.records.get_mut(id) {
                    record.delivered = Some((index, *offset));
                }
            }
            Event::Offsets { tx, group, offsets } => {
                if let Some(transaction) = self.transactions.get_mut(tx) {
                    transaction.offsets.push((*group, offsets.clone()));
                }
            }
            Event::Committing { tx } => {
                if let Some(transaction) = self.transactions.get_mut(tx) {
                    transaction.committing.get_or_insert(index);
                    self.readers.committing(*tx);
                }
            }
            Event::Told { tx, outcome } => {
                if let Some(transaction) = self.transactions.get_mut(tx) {
                    transaction.told = Some((index, *outcome));
                }
            }
            Event::Fatal { instance, error } => return self.fatal(index, now, *instance, error),
            Event::Stands {
                reader,
                part,
                offset,
                committed,
            } => self.readers.stands(*reader, *part, *offset, *committed),
            Event::Read {
                reader,
                part,
                offset,
                id,
            } => return self.readers.read(index, *reader, *part, *offset, *id),
            Event::Position {
                reader,
                part,
                offset,
            } => self.readers.position(index, *reader, *part, *offset),
            Event::Settled => self.settled = true,
            Event::Stored {
                part,
                offset,
                id,
                producer,
            } => self.logged(index, *part, *offset, *producer, Logged::Record(*id)),
            Event::Marked {
                part,
                offset,
                producer,
                commit,
            } => {
                let what = Logged::Marker { commit: *commit };
                self.logged(index, *part, *offset, *producer, what);
            }
            Event::GroupAt {
                group,
                part,
                offset,
            } => self.group_at.push((index, *group, *part, *offset)),
        }
        Ok(())
    }

    /// A client asked for a producer id.
    fn asked(&mut self, client: u32) {
        let mut instances = self.instances.values_mut();
        let starts = |instance: &&mut Instance| instance.started.is_none();
        if let Some(instance) = instances.find(|i| i.client == client).filter(starts) {
            instance.asked += 1;
        }
    }

    fn logged(&mut self, index: usize, part: Part, offset: i64, producer: i64, what: Logged) {
        self.logs.entry(part).or_default().push(Entry {
            index,
            offset,
            producer,
            what,
        });
    }

    fn fatal(&mut self, index: usize, now: u64, member: Member, error: &str) -> Verdict {
        let Some(instance) = self.instances.get_mut(&member) else {
            return Ok(());
        };
        instance.ends_by(now);
        let instance = &self.instances[&member];
        // One that started later, or whose request to start may have been on its way for long.
        let rival = self.instances.iter().any(|(other, rival)| {
            let is_older = rival.started.is_some_and(|at| at < instance.starting);
            *other != member && rival.name == instance.name && !is_older
        });
        // Its own request may have been on its way for long, too.
        let reason = rival || instance.overdue || instance.asked > 1;
        holds(reason, Rule::FatalForAReason, index, || {
            format!(
                "i{member} is told {error:?}, while nobody else has its name and no transaction took too long"
            )
        })
    }

    fn end(mut self) -> Verdict {
        if !self.settled {
            return Ok(());
        }
        let stored = self.stored()?;
        self.order()?;
        for (id, record) in &self.records {
            let found = stored.get(id);
            if let Some((index, offset)) = record.delivered {
                let stands = found.is_some_and(|f| f.part == record.part && f.offset == offset);
                holds(stands, Rule::StandsWhereDelivered, index, || {
                    let what = Id(*id);
                    let part = record.part;
                    format!("{what} was delivered to {part}@{offset}; in the logs: {found:?}")
                })?;
            }
        }
        let mut committed = BTreeSet::new();
        for (tx, transaction) in &self.transactions {
            if self.transaction(*tx, transaction, &stored)? {
                committed.insert(*tx);
            }
        }
        self.offsets(&committed)?;
        self.copies(&stored)?;
        let readers = std::mem::take(&mut self.readers);
        readers.end(&stored)
    }

    /// Where every record stands, and whether it is committed.
    fn stored(&self) -> Result<BTreeMap<u64, Stored>, Violation> {
        let mut stored: BTreeMap<u64, Stored> = BTreeMap::new();
        for (part, log) in &self.logs {
            let mut open: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
            for entry in log {
                let id = match entry.what {
                    Logged::Record(id) => id,
                    Logged::Marker { commit } => {
                        for id in open.remove(&entry.producer).unwrap_or_default() {
                            if let Some(record) = stored.get_mut(&id) {
                                record.committed = commit;
                            }
                        }
                        continue;
                    }
                };
                let (index, what) = (entry.index, Id(id));
                let sent = self.records.get(&id);
                let was_sent = sent.is_some_and(|sent| sent.part == *part && sent.accepted);
                holds(was_sent, Rule::WasSent, index, || {
                    format!("{what} stands at {part}@{}: {sent:?}", entry.offset)
                })?;
                let new = Stored {
                    index,
                    part: *part,
                    offset: entry.offset,
                    committed: false,
                };
                let old = stored.insert(id, new);
                holds(old.is_none(), Rule::NoDuplicate, index, || {
                    format!("{what} stands at {part}@{} and at {old:?}", entry.offset)
                })?;
                open.entry(entry.producer).or_default().push(id);
            }
            if let Some((producer, ids)) = open.first_key_value() {
                let index = ids.first().map_or(0, |id| stored[id].index);
                let problem = format!("producer {producer} has an open transaction in {part}");
                return Err(Violation {
                    rule: Rule::NothingStaysOpen,
                    index,
                    problem,
                });
            }
        }
        Ok(stored)
    }

    fn order(&self) -> Verdict {
        for (part, log) in &self.logs {
            let mut newest: BTreeMap<Member, u64> = BTreeMap::new();
            for entry in log {
                let Logged::Record(id) = entry.what else {
                    continue;
                };
                let Some(transaction) = self.transactions.get(&tx_of(id)) else {
                    continue;
                };
                let before = newest.insert(transaction.instance, id);
                let grows = before.is_none_or(|before| before < id);
                holds(grows, Rule::InOrder, entry.index, || {
                    let before = before.map(|id| Id(id).to_string());
                    format!("{} stands behind {before:?} in {part}", Id(id))
                })?;
            }
        }
        Ok(())
    }

    /// Whether the transaction is committed.
    fn transaction(
        &self,
        tx: Tx,
        transaction: &Transaction,
        stored: &BTreeMap<u64, Stored>,
    ) -> Result<bool, Violation> {
        let ids = history::record_id(tx, 0)..history::record_id(tx + 1, 0);
        let in_logs = || stored.range(ids.clone());
        let committed = in_logs().find(|(_, record)| record.committed);
        let aborted = in_logs().find(|(_, record)| !record.committed);
        if let (Some((committed, _)), Some((aborted, record))) = (committed, aborted) {
            let problem = format!(
                "{} is committed, and {} is not",
                Id(*committed),
                Id(*aborted)
            );
            return Err(Violation {
                rule: Rule::AllOrNothing,
                index: record.index,
                problem,
            });
        }
        if let Some((index, Outcome::Committed)) = transaction.told {
            let mut accepted = self.records.range(ids.clone());
            let lost = accepted.find(|(id, record)| {
                record.accepted && !stored.get(id).is_some_and(|stored| stored.committed)
            });
            holds(lost.is_none(), Rule::CommittedStays, index, || {
                let lost = lost.map(|(id, _)| Id(*id).to_string());
                format!("t{tx} was said to be committed, and {lost:?} is not")
            })?;
        }
        let Some((id, record)) = committed else {
            // Without records in the logs, the application's word must do.
            return Ok(
                aborted.is_none() && matches!(transaction.told, Some((_, Outcome::Committed)))
            );
        };
        let may_be = transaction.committing.is_some()
            && !matches!(transaction.told, Some((_, Outcome::NotCommitted)));
        holds(may_be, Rule::NotCommittedStays, record.index, || {
            let told = transaction.told.map(|(_, outcome)| outcome);
            format!(
                "{} is committed; t{tx} was said to be {told:?}, its commit was asked for: {}",
                Id(*id),
                transaction.committing.is_some()
            )
        })?;
        self.not_fenced(tx, transaction, record.index)?;
        Ok(true)
    }

    /// A transaction that is committed was not to be so after another instance had started.
    fn not_fenced(&self, tx: Tx, transaction: &Transaction, index: usize) -> Verdict {
        let (Some(instance), Some(asked)) = (
            self.instances.get(&transaction.instance),
            transaction.committing,
        ) else {
            return Ok(());
        };
        let fences = |younger: &Instance| {
            younger.name == instance.name
                && instance.started.is_some_and(|at| at < younger.starting)
                && younger.started.is_some_and(|at| at < asked)
        };
        let by = self.instances.iter().find(|(_, other)| fences(other));
        holds(by.is_none(), Rule::FencedForGood, index, || {
            format!(
                "t{tx} of i{} is committed, whose commit was asked for after i{:?} had started",
                transaction.instance,
                by.map(|(member, _)| member)
            )
        })
    }

    /// Each group is where the furthest committed transaction took it.
    fn offsets(&self, committed: &BTreeSet<Tx>) -> Verdict {
        let mut furthest: BTreeMap<(u8, Part), (i64, Tx)> = BTreeMap::new();
        for tx in committed {
            let Some(transaction) = self.transactions.get(tx) else {
                continue;
            };
            for (group, offsets) in &transaction.offsets {
                for (part, offset) in offsets {
                    let at = furthest.entry((*group, *part)).or_insert((*offset, *tx));
                    *at = (*at).max((*offset, *tx));
                }
            }
        }
        for (index, group, part, offset) in &self.group_at {
            let at = furthest.get(&(*group, *part));
            let same = *offset == at.map(|(offset, _)| *offset);
            holds(same, Rule::OffsetsWithRecords, *index, || {
                format!(
                    "g{group} is at {part}@{offset:?}; committed transactions took it to {at:?}"
                )
            })?;
        }
        Ok(())
    }

    /// Every committed record below a group's position has one committed copy, and no other has any.
    fn copies(&self, stored: &BTreeMap<u64, Stored>) -> Verdict {
        let mut copies: BTreeMap<(Part, i64), Vec<u64>> = BTreeMap::new();
        for (id, sent) in &self.records {
            if let Some(of) = sent.of
                && stored.get(id).is_some_and(|stored| stored.committed)
            {
                copies.entry(of).or_default().push(*id);
            }
        }
        for (index, group, part, offset) in &self.group_at {
            let end = offset.unwrap_or(0);
            let records = stored.values().filter(|record| record.part == *part);
            for record in records {
                let of = copies.remove(&(*part, record.offset)).unwrap_or_default();
                let expected = usize::from(record.committed && record.offset < end);
                holds(of.len() == expected, Rule::CopiedOnce, *index, || {
                    let of: Vec<String> = of.iter().map(|id| Id(*id).to_string()).collect();
                    format!(
                        "{part}@{} has the copies {of:?} instead of {expected}; g{group} is at {end}",
                        record.offset
                    )
                })?;
            }
        }
        let invented = copies.first_key_value();
        let index = self.group_at.first().map_or(0, |at| at.0);
        holds(invented.is_none(), Rule::CopiedOnce, index, || {
            format!("nothing stands where {invented:?} was copied from")
        })
    }
}

impl Instance {
    /// What was open until now is not any more.
    fn ends_by(&mut self, now: u64) {
        if let Some(began) = self.newest {
            self.overdue |= now - began >= self.timeout_ms;
        }
    }
}

fn tx_of(id: u64) -> Tx {
    (id >> 32) as Tx
}

fn holds(holds: bool, rule: Rule, index: usize, problem: impl FnOnce() -> String) -> Verdict {
    if holds {
        return Ok(());
    }
    Err(Violation {
        rule,
        index,
        problem: problem(),
    })
}
