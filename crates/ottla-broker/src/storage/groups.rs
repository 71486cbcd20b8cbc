//! The files of groups.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DataDir, checked, remove_if_there};
use crate::disk::read_checked;
use crate::error::Error;
use crate::group::Group;
use crate::group::consumer::SavedConsumerGroup;
use crate::group::offsets::{Committed, Offsets};

/// A group as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedGroup {
    pub(crate) group: String,
    /// What kind of group its members made it; none if it never had any.
    #[serde(default)]
    pub(crate) protocol_type: Option<String>,
    /// Members and epochs of a consumer group; none of a classic one.
    #[serde(default)]
    pub(crate) consumer: Option<SavedConsumerGroup>,
    offsets: Vec<SavedOffset>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedOffset {
    topic: String,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
    commit_time_ms: i64,
}

impl SavedGroup {
    pub(crate) fn of(id: &str, group: &Group) -> Self {
        let offsets = group
            .offsets
            .iter()
            .map(|(topic, partition, committed)| SavedOffset {
                topic: topic.to_owned(),
                partition,
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
                metadata: committed.metadata.clone(),
                commit_time_ms: committed.commit_time_ms,
            })
            .collect();
        Self {
            group: id.to_owned(),
            protocol_type: group.protocol_type().map(str::to_owned),
            consumer: group.consumer.as_ref().map(SavedConsumerGroup::of),
            offsets,
        }
    }

    pub(crate) fn offsets(&self) -> Offsets {
        let mut offsets = Offsets::default();
        for saved in &self.offsets {
            let committed = Committed {
                offset: saved.offset,
                leader_epoch: saved.leader_epoch,
                metadata: saved.metadata.clone(),
                commit_time_ms: saved.commit_time_ms,
            };
            offsets.commit(&saved.topic, saved.partition, committed);
        }
        offsets
    }
}

impl DataDir {
    /// Every group.
    pub(crate) fn groups(&self) -> Result<Vec<SavedGroup>, Error> {
        let mut groups = Vec::new();
        for path in self.json_files("groups")? {
            let Some(saved) = checked(&path, read_checked::<SavedGroup>(&path))? else {
                continue;
            };
            if self.group_path(&saved.group).ok().as_deref() != Some(&*path) {
                let what = format!("it holds the group {}", saved.group);
                return Err(Error::DataDirDamaged { file: path, what });
            }
            groups.push(saved);
        }
        Ok(groups)
    }

    pub(crate) fn save_group(&self, saved: &SavedGroup) -> io::Result<()> {
        self.disk.replace(&self.group_path(&saved.group)?, saved)
    }

    pub(crate) fn delete_group(&self, id: &str) -> io::Result<()> {
        remove_if_there(&self.group_path(id)?)
    }

    fn group_path(&self, group: &str) -> io::Result<PathBuf> {
        self.named_path("groups", group)
    }
}
