//! The application's side: the answer it is reading. Behind a lock of its own, so that decoding delays no request.

use ottla_wire::compress::Decompressor;
use tracing::Span;

use super::{core::Core, driver::Shared, fetched::Fetched, held::run_len, record::ShareRecord};
use crate::{Error, driver::now, payload::DecodeLimits, spans};

#[derive(Debug)]
pub(super) struct Reader {
    current: Option<Fetched>,
    limits: DecodeLimits,
    decompressor: Decompressor,
    /// Why no call for records can succeed until there is another subscription.
    pub(super) fatal: Option<Error>,
}

impl Reader {
    pub(super) fn new(limits: DecodeLimits) -> Self {
        Self {
            current: None,
            limits,
            decompressor: Decompressor::new(),
            fatal: None,
        }
    }

    /// Forgets what is being read; the core does the same.
    pub(super) fn clear(&mut self) {
        self.current = None;
    }

    /// What there is, up to `max` records; empty if there is nothing, and then more is asked for.
    pub(super) fn take(&mut self, shared: &Shared, max: usize) -> Result<Vec<ShareRecord>, Error> {
        if let Some(error) = &self.fatal {
            return Err(error.clone());
        }
        if let Some(error) = shared.core(Core::next_error) {
            return Err(error);
        }
        let mut records = Vec::new();
        while records.len() < max {
            let current = self.current.take();
            let next = shared.core(|core| {
                let current = current.and_then(|current| core.go_on(current, now()));
                let current = current.map(|current| (current, false));
                current.or_else(|| Some((core.next_ready(now())?, true)))
            });
            let Some((mut current, new)) = next else {
                break;
            };
            let span = match new {
                true => opened(shared, &current),
                false => Span::none(),
            };
            let room = max - records.len();
            let before = records.len();
            let mut read = span
                .in_scope(|| current.read(room, self.limits, &mut self.decompressor, &mut records));
            if let Some(error) = &read.error {
                spans::fail(&span, spans::UNREADABLE, error);
            }
            drop(span);
            if shared.core(|core| core.lend(&current, &mut read, now())) {
                self.current = Some(current).filter(|_| !read.done);
            } else {
                records.truncate(before);
            }
        }
        if records.is_empty() {
            let error = shared.core(|core| {
                core.want_records(now());
                core.next_error()
            });
            return error.map_or(Ok(records), Err);
        }
        Ok(records)
    }
}

/// The span of a partition's part of an answer, of which the first records are handed out. It counts what is acquired: of
/// offsets where the log has no record there come fewer.
fn opened(shared: &Shared, fetched: &Fetched) -> Span {
    let span = shared.spans.poll(&fetched.name);
    if !span.is_disabled()
        && let Some((first, _)) = fetched.acquired().next()
    {
        let records: u64 = fetched.acquired().map(run_len).sum();
        spans::taken(&span, first, Some(records));
    }
    span
}
