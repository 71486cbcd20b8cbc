//! Features that the cluster agreed on (KIP-584): here, of which generation transactions are.

use std::sync::atomic::{AtomicI16, AtomicI64, Ordering};

/// The levels in force.
#[derive(Debug)]
pub(crate) struct Features {
    transaction_version: AtomicI16,
    /// Counts changes.
    epoch: AtomicI64,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            transaction_version: AtomicI16::new(TRANSACTION_VERSION_MAX),
            epoch: AtomicI64::new(0),
        }
    }
}

impl Features {
    /// `transaction.version`: from 2 on producers use the flow of KIP-890.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.transaction_version.load(Ordering::Relaxed)
    }

    pub(crate) fn set_transaction_version(&self, level: i16) {
        self.transaction_version.store(level, Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Relaxed)
    }
}

pub(crate) const TRANSACTION_VERSION: &str = "transaction.version";
pub(crate) const TRANSACTION_VERSION_MAX: i16 = 2;
