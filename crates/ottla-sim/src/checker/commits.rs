//! What a group has committed, as far as its members can know, and what they may commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Part;

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct GroupOffsets {
    parts: BTreeMap<Part, Progress>,
    /// Commits that an application asked for, by number.
    called: BTreeMap<u64, Vec<(Part, i64)>>,
    /// Commits that are under way, or were when their connection broke.
    sent: BTreeMap<u64, Sent>,
    /// What was acknowledged when a question was asked.
    floors: BTreeMap<u64, BTreeMap<Part, i64>>,
}

#[derive(Debug, Default)]
struct Progress {
    handed: BTreeSet<i64>,
    done: BTreeSet<i64>,
    /// What was passed over on purpose: from, to.
    skipped: Vec<(i64, i64)>,
    /// Acknowledged, and nobody went back since.
    acknowledged: i64,
}

#[derive(Debug)]
struct Sent {
    at_ms: u64,
    /// By whom, under its member id.
    by: String,
    offsets: Vec<(Part, i64)>,
}

impl GroupOffsets {
    pub(super) fn handed(&mut self, part: Part, offset: i64) {
        self.parts.entry(part).or_default().handed.insert(offset);
    }

    pub(super) fn done(&mut self, part: Part, offset: i64) {
        self.parts.entry(part).or_default().done.insert(offset);
    }

    /// A reader passes over what lies between, on purpose.
    pub(super) fn skip(&mut self, part: Part, from: i64, to: i64) {
        if from < to {
            let progress = self.parts.entry(part).or_default();
            progress.skipped.push((from, to));
        }
    }

    /// A reader goes on at `to` or behind it, wherever it was before.
    pub(super) fn goes_back(&mut self, part: Part, to: i64) {
        let progress = self.parts.entry(part).or_default();
        progress.acknowledged = progress.acknowledged.min(to);
        // Whatever is committed from now on may be the new place.
        let called = self.called.values_mut();
        let floors = called.flatten().filter(|(of, _)| *of == part);
        for (_, offset) in floors {
            *offset = (*offset).min(to);
        }
    }

    pub(super) fn is_done(&self, part: Part, offset: i64) -> bool {
        self.parts.get(&part).is_some_and(|progress| {
            let skipped = progress.skipped.iter();
            progress.done.contains(&offset)
                || skipped
                    .into_iter()
                    .any(|(from, to)| (*from..*to).contains(&offset))
        })
    }

    pub(super) fn was_handed(&self, part: Part, offset: i64) -> bool {
        self.parts
            .get(&part)
            .is_some_and(|progress| progress.handed.contains(&offset))
    }

    pub(super) fn called(&mut self, number: u64, positions: Vec<(Part, i64)>) {
        self.called.insert(number, positions);
    }

    pub(super) fn acked(&mut self, number: u64) {
        for (part, offset) in self.called.remove(&number).unwrap_or_default() {
            let progress = self.parts.entry(part).or_default();
            progress.acknowledged = progress.acknowledged.max(offset);
        }
    }

    pub(super) fn sent(&mut self, number: u64, now_ms: u64, by: &str, offsets: &[(Part, i64)]) {
        let sent = Sent {
            at_ms: now_ms,
            by: by.to_owned(),
            offsets: offsets.to_vec(),
        };
        self.sent.insert(number, sent);
    }

    /// When a commit was sent that is not answered, and by whom.
    pub(super) fn sender(&self, number: u64) -> Option<(u64, &str)> {
        let sent = self.sent.get(&number)?;
        Some((sent.at_ms, &sent.by))
    }

    /// No commit of these members for this can be stored any more.
    pub(super) fn forget_strays(&mut self, part: Part, refused: impl Fn(&str) -> bool) {
        let sent = self.sent.values_mut();
        for sent in sent.filter(|sent| refused(&sent.by)) {
            sent.offsets.retain(|(of, _)| *of != part);
        }
    }

    pub(super) fn answered(&mut self, number: u64) {
        self.sent.remove(&number);
    }

    pub(super) fn asked(&mut self, number: u64) {
        let floors = self
            .parts
            .iter()
            .map(|(part, progress)| (*part, progress.acknowledged));
        self.floors.insert(number, floors.collect());
    }

    /// What must be committed at least, now.
    pub(super) fn floor(&self, part: Part, now_ms: u64) -> i64 {
        let acknowledged = self.parts.get(&part).map_or(0, |p| p.acknowledged);
        // A commit whose connection broke may be stored later than one that was sent after it.
        let stray = self
            .sent
            .values()
            .filter(|sent| sent.at_ms + STRAY_MS > now_ms)
            .flat_map(|sent| &sent.offsets)
            .filter(|(of, _)| *of == part)
            .map(|(_, offset)| *offset);
        stray.fold(acknowledged, i64::min)
    }

    /// What must have been committed at least when a question was asked, and still is.
    pub(super) fn floor_when_asked(&self, number: u64, part: Part, now_ms: u64) -> i64 {
        let then = self.floors.get(&number);
        let then = then.and_then(|floors| floors.get(&part)).copied();
        then.unwrap_or(0).min(self.floor(part, now_ms))
    }
}

/// How long a request whose connection broke may lie with a broker, behind others that wait.
pub(super) const STRAY_MS: u64 = 300_000;
