//! What a member says of records, gathered per partition until it is sent.

use std::collections::BTreeSet;

use super::held::Run;

/// What an application says of a record that it was handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum AcknowledgeType {
    /// It is processed; nobody is handed it again.
    Accept = 1,
    /// It is not: another attempt is made, by whichever member comes first, until the group's
    /// `share.delivery.count.limit` is reached.
    Release = 2,
    /// It cannot be processed; nobody is handed it again.
    Reject = 3,
    /// It takes longer: the acquisition lock begins anew (KIP-1222). The record still has to be acknowledged with one of
    /// the others.
    Renew = 4,
}

/// On the wire: there is no record at that offset that this member could be handed.
pub(super) const GAP: i8 = 0;

/// [`AcknowledgeType::Release`] of what the application was never handed: it is told nothing of it.
pub(super) const GIVE_BACK: i8 = -1;

/// A type as requests carry it.
pub(super) fn on_wire(kind: i8) -> i8 {
    match kind {
        GIVE_BACK => AcknowledgeType::Release as i8,
        _ => kind,
    }
}

/// On the wire, [`AcknowledgeType::Renew`].
pub(super) const RENEW: i8 = AcknowledgeType::Renew as i8;

/// Acknowledgements of one partition, not sent yet.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// By type, in the order in which they were made. No offset comes twice.
    runs: Vec<(Run, i8)>,
    /// Offsets whose lock is to begin anew, and nothing else yet.
    renewals: BTreeSet<i64>,
}

impl Acknowledged {
    pub(super) fn push(&mut self, run: Run, kind: i8) {
        if kind == RENEW {
            self.renewals.extend(run.0..=run.1);
            return;
        }
        if !self.renewals.is_empty() {
            // Who is done with it needs no more time.
            self.renewals
                .retain(|offset| !(run.0..=run.1).contains(offset));
        }
        if let Some(((_, last), of)) = self.runs.last_mut()
            && *of == kind
            && last.checked_add(1) == Some(run.0)
        {
            *last = run.1;
        } else {
            self.runs.push((run, kind));
        }
    }

    /// Takes back what was said of these offsets.
    pub(super) fn remove(&mut self, (first, last): Run) -> Vec<(Run, i8)> {
        let mut removed = Vec::new();
        let mut rest = Vec::with_capacity(self.runs.len());
        for ((from, to), kind) in self.runs.drain(..) {
            let part = |from: i64, to: i64, parts: &mut Vec<(Run, i8)>| {
                if from <= to {
                    parts.push(((from, to), kind));
                }
            };
            part(from, to.min(first.saturating_sub(1)), &mut rest);
            part(from.max(first), to.min(last), &mut removed);
            part(from.max(last.saturating_add(1)), to, &mut rest);
        }
        self.runs = rest;
        let renewals = self.renewals.extract_if(first..=last, |_| true);
        removed.extend(renewals.map(|offset| ((offset, offset), RENEW)));
        removed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.renewals.is_empty()
    }

    pub(super) fn has_renewals(&self) -> bool {
        !self.renewals.is_empty()
    }

    /// All of it, as a request carries it: in the order of offsets, neighbours of one type together.
    pub(super) fn take(&mut self) -> Vec<(Run, i8)> {
        let mut runs = std::mem::take(&mut self.runs);
        let renewals = std::mem::take(&mut self.renewals);
        runs.extend(renewals.into_iter().map(|offset| ((offset, offset), RENEW)));
        runs.sort_unstable();
        runs.dedup_by(|next, before| {
            let joins = before.1 == next.1 && before.0.1.checked_add(1) == Some(next.0.0);
            if joins {
                before.0.1 = next.0.1;
            }
            joins
        });
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: i8 = AcknowledgeType::Accept as i8;
    const REJECT: i8 = AcknowledgeType::Reject as i8;

    #[test]
    fn goes_out_in_order_and_in_as_few_runs_as_possible() {
        let mut all = Acknowledged::default();
        for offset in [5, 3, 4, 9] {
            all.push((offset, offset), ACCEPT);
        }
        all.push((6, 7), REJECT);
        all.push((8, 8), GAP);
        assert_eq!(
            all.take(),
            [
                ((3, 5), ACCEPT),
                ((6, 7), REJECT),
                ((8, 8), GAP),
                ((9, 9), ACCEPT)
            ]
        );
        assert!(all.is_empty());
    }

    #[test]
    fn what_was_said_of_some_offsets_is_taken_back() {
        let mut all = Acknowledged::default();
        all.push((0, 9), ACCEPT);
        all.push((12, 14), REJECT);
        for offset in [10, 11, 20] {
            all.push((offset, offset), RENEW);
        }
        let removed = [
            ((8, 9), ACCEPT),
            ((12, 13), REJECT),
            ((10, 10), RENEW),
            ((11, 11), RENEW),
        ];
        assert_eq!(all.remove((8, 13)), removed);
        assert_eq!(all.remove((8, 13)), []);
        assert_eq!(
            all.take(),
            [((0, 7), ACCEPT), ((14, 14), REJECT), ((20, 20), RENEW)]
        );
    }

    #[test]
    fn a_record_that_is_done_with_is_not_renewed() {
        let mut all = Acknowledged::default();
        all.push((1, 1), RENEW);
        all.push((2, 2), RENEW);
        assert!(all.has_renewals());
        all.push((1, 1), ACCEPT);
        assert_eq!(all.take(), [((1, 1), ACCEPT), ((2, 2), RENEW)]);
    }
}
