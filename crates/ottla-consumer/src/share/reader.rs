//! The application's side: the answer it is reading. Behind a lock of its own, so that decoding delays no request.

use ottla_wire::compress::Decompressor;

use super::{core::Core, driver::Shared, fetched::Fetched, record::ShareRecord};
use crate::{Error, driver::now, payload::DecodeLimits};

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
                current.or_else(|| core.next_ready(now()))
            });
            let Some(mut current) = next else { break };
            let room = max - records.len();
            let before = records.len();
            let mut read = current.read(room, self.limits, &mut self.decompressor, &mut records);
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
