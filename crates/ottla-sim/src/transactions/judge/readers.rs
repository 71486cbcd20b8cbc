//! What readers must get: everything that they may see from where they stand, in order and once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Stored, Verdict, holds, tx_of};
use crate::history::{Id, Member, Part};
use crate::transactions::event::Tx;

#[derive(Debug, Default)]
pub(super) struct Readers {
    readings: BTreeMap<(Member, Part), Reading>,
    /// Transactions whose commit was asked for.
    committing: BTreeSet<Tx>,
}

/// One reader's way through one partition.
#[derive(Debug)]
struct Reading {
    start: i64,
    /// Whether it reads only what is committed.
    committed: bool,
    read: Vec<Read>,
    /// The furthest position that it said it had.
    position: Option<(usize, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    index: usize,
    offset: i64,
    id: u64,
}

impl Readers {
    pub(super) fn committing(&mut self, tx: Tx) {
        self.committing.insert(tx);
    }

    pub(super) fn stands(&mut self, reader: Member, part: Part, offset: i64, committed: bool) {
        let reading = Reading {
            start: offset,
            committed,
            read: Vec::new(),
            position: None,
        };
        self.readings.insert((reader, part), reading);
    }

    pub(super) fn read(
        &mut self,
        index: usize,
        reader: Member,
        part: Part,
        offset: i64,
        id: u64,
    ) -> Verdict {
        let Some(reading) = self.readings.get_mut(&(reader, part)) else {
            return Ok(());
        };
        // Whatever becomes of it later, this is too early.
        let early = reading.committed && !self.committing.contains(&tx_of(id));
        holds(!early, Rule::ReadsCommitted, index, || {
            let id = Id(id);
            format!("r{reader} gets {id} of {part}@{offset}, whose commit nobody has asked for")
        })?;
        reading.read.push(Read { index, offset, id });
        Ok(())
    }

    pub(super) fn position(&mut self, index: usize, reader: Member, part: Part, offset: i64) {
        if let Some(reading) = self.readings.get_mut(&(reader, part))
            && reading.position.is_none_or(|(_, before)| before < offset)
        {
            reading.position = Some((index, offset));
        }
    }

    pub(super) fn end(self, stored: &BTreeMap<u64, Stored>) -> Verdict {
        let mut logs: BTreeMap<Part, BTreeMap<i64, (u64, bool)>> = BTreeMap::new();
        for (id, record) in stored {
            let log = logs.entry(record.part).or_default();
            log.insert(record.offset, (*id, record.committed));
        }
        let empty = BTreeMap::new();
        for ((reader, part), reading) in &self.readings {
            let log = logs.get(part).unwrap_or(&empty);
            reading.end(*reader, *part, log)?;
        }
        Ok(())
    }
}

impl Reading {
    fn end(&self, reader: Member, part: Part, log: &BTreeMap<i64, (u64, bool)>) -> Verdict {
        let visible = |(_, (_, committed)): &(&i64, &(u64, bool))| *committed || !self.committed;
        let mut next = log.range(self.start..).filter(visible);
        for read in &self.read {
            let (index, offset) = (read.index, read.offset);
            let there = log.get(&offset);
            let hidden = there.is_some_and(|(_, committed)| self.committed && !committed);
            holds(!hidden, Rule::ReadsCommitted, index, || {
                let id = Id(read.id);
                format!("r{reader} gets {id} of {part}@{offset}, which is not committed")
            })?;
            let due = next.next();
            let is_due = due.is_some_and(|(at, (id, _))| *at == offset && *id == read.id);
            holds(is_due, Rule::ReadsAll, index, || {
                let due = due.map(|(at, (id, _))| format!("{} at {at}", Id(*id)));
                format!(
                    "r{reader} gets {} of {part}@{offset}, {due:?} is due",
                    Id(read.id)
                )
            })?;
        }
        let Some((index, position)) = self.position else {
            return Ok(());
        };
        let missed = next.next().filter(|(at, _)| **at < position);
        holds(missed.is_none(), Rule::ReadsAll, index, || {
            format!("r{reader} is at {part}@{position} and never got {missed:?}")
        })
    }
}
