//! A share group as a data directory keeps it: what became of records, and not who is a member.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ShareGroup;
use super::partition::saved::Kept;
use super::settings::ShareSettings;
use crate::group::consumer::TopicPartition;

/// All of it that outlives a restart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedShareGroup {
    epoch: i32,
    partitions: Vec<Kept>,
}

/// Where the log of each partition begins and ends.
pub(crate) type LogRanges = BTreeMap<TopicPartition, (i64, i64)>;

impl SavedShareGroup {
    pub(crate) fn of(group: &mut ShareGroup) -> Self {
        let partitions = group.partitions.iter_mut();
        Self {
            epoch: group.epoch,
            partitions: partitions.map(|(id, of)| of.keep(*id)).collect(),
        }
    }

    /// The group as it was, without members. What topics are gone it forgets.
    ///
    /// # Errors
    /// If that is not how a group can be.
    pub(crate) fn restore(
        &self,
        settings: ShareSettings,
        logs: &LogRanges,
    ) -> Result<ShareGroup, String> {
        let mut group = ShareGroup::new(settings);
        group.epoch = self.epoch;
        for kept in &self.partitions {
            let id = kept.id().ok_or("a topic's id is none")?;
            if let Some(log) = logs.get(&id) {
                group.partitions.insert(id, kept.restore(*log)?);
            }
        }
        Ok(group)
    }
}
