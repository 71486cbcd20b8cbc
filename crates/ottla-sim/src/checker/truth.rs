//! What really was written.

use std::collections::BTreeMap;

use crate::history::Part;

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
    pub(crate) fn at(&self, part: Part, offset: i64) -> Option<Written> {
        self.logs.get(&part)?.get(&offset).copied()
    }

    /// The first record at or behind an offset.
    pub(crate) fn first(&self, part: Part, offset: i64) -> Option<i64> {
        let log = self.logs.get(&part)?;
        log.range(offset..).next().map(|(offset, _)| *offset)
    }

    pub(crate) fn between(&self, part: Part, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let log = self.logs.get(&part);
        log.into_iter()
            .filter(move |_| from < to)
            .flat_map(move |log| log.range(from..to))
            .map(|(offset, _)| *offset)
    }
}
