//! Features that the cluster agreed on (KIP-584): here, of which generation transactions are.

use std::sync::atomic::{AtomicI16, AtomicI64, Ordering};

use ottla_wire::ErrorCode;

use crate::context::Shared;

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

    /// As it was kept.
    pub(crate) fn restore_transaction_version(&self, level: i16) {
        self.transaction_version.store(level, Ordering::Relaxed);
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Changes `transaction.version` and keeps it.
    pub(crate) fn set_transaction_version(&self, level: i16) -> Result<(), ErrorCode> {
        if let Some(data_dir) = &self.data_dir {
            data_dir.save_transaction_version(level).map_err(|error| {
                tracing::error!(%error, "cannot keep transaction.version");
                ErrorCode::KAFKA_STORAGE_ERROR
            })?;
        }
        self.features.restore_transaction_version(level);
        self.features.epoch.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) const TRANSACTION_VERSION: &str = "transaction.version";
pub(crate) const TRANSACTION_VERSION_MAX: i16 = 2;
