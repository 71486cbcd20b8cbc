//! Features that the cluster agreed on (KIP-584), and their levels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A feature that this broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// Levels go from 0 to this one, which is in force from the start.
    pub(crate) max: i16,
}

/// Every feature's level, and how often any changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Levels {
    by_name: BTreeMap<String, i16>,
    epoch: i64,
}

impl Levels {
    /// What was never changed is at its highest.
    pub(crate) fn of(&self, feature: Feature) -> i16 {
        let level = self.by_name.get(feature.name).copied();
        level.unwrap_or(feature.max).min(feature.max)
    }

    /// Counts changes.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = (Feature, i16)>) {
        for (feature, level) in changes {
            self.by_name.insert(feature.name.to_owned(), level);
        }
        self.epoch += 1;
    }
}

/// Of which generation transactions are: from 2 on producers use the flow of KIP-890.
pub(crate) const TRANSACTION_VERSION: Feature = Feature {
    name: "transaction.version",
    max: 2,
};

/// Of which generation groups are: from 1 on there are consumer groups (KIP-848).
pub(crate) const GROUP_VERSION: Feature = Feature {
    name: "group.version",
    max: 1,
};

/// Whether there are share groups (KIP-932).
pub(crate) const SHARE_VERSION: Feature = Feature {
    name: "share.version",
    max: 1,
};

/// By name.
pub(crate) const FEATURES: [Feature; 3] = [GROUP_VERSION, SHARE_VERSION, TRANSACTION_VERSION];
