//! How long a rebalance takes: from the first that this member does or gives up for it until it has its assignment, or is
//! no member any more.

use std::time::Instant;

use ottla_wire::ErrorCode;
use tracing::Span;

use super::{Shared, now};
use crate::spans;

/// The rebalance that is under way, if one is.
#[derive(Debug, Default)]
pub(super) struct Rebalance(Option<Begun>);

#[derive(Debug)]
struct Begun {
    since: Instant,
    span: Span,
    revoked: usize,
}

impl Rebalance {
    /// One begins, unless one is under way.
    pub(super) fn begin(&mut self, shared: &Shared) {
        self.0.get_or_insert_with(|| Begun {
            since: now(),
            span: shared.spans.rebalance(),
            revoked: 0,
        });
    }

    /// For what is done meanwhile.
    pub(super) fn span(&self) -> Span {
        let begun = self.0.as_ref();
        begun.map_or_else(Span::none, |begun| begun.span.clone())
    }

    /// So many partitions were given up in it.
    pub(super) fn revoked(&mut self, partitions: usize) {
        if let Some(begun) = &mut self.0 {
            begun.revoked += partitions;
            begun.span.record("partitions.revoked", begun.revoked);
        }
    }

    /// It brought so many partitions that were not this member's before.
    pub(super) fn adopted(&mut self, shared: &Shared, partitions: usize) {
        if let Some(begun) = self.0.take() {
            begun.span.record("partitions.assigned", partitions);
            let latency = &shared.counters.rebalance_latency;
            latency.add_time(now() - begun.since);
        }
    }

    /// This member takes no part in it any more: it leaves, or is refused.
    pub(super) fn end(&mut self, refused: Option<ErrorCode>) {
        if let (Some(begun), Some(error)) = (self.0.take(), refused) {
            spans::refused(&begun.span, error);
        }
    }
}
