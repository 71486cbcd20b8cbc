//! The files of groups.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DataDir, checked, remove_if_there, stem};
use crate::disk::read_checked;
use crate::error::Error;
use crate::group::Group;
use crate::group::consumer::SavedConsumerGroup;
use crate::group::offsets::{Committed, Offsets};
use crate::group::share::saved::SavedShareGroup;

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
    /// What became of the records of a share group; none of another.
    #[serde(default)]
    pub(crate) share: Option<SavedShareGroup>,
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
    pub(crate) fn of(id: &str, group: &mut Group) -> Self {
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
            share: group.share.as_mut().map(SavedShareGroup::of),
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
    /// Every group, and the file that holds it.
    pub(crate) fn groups(&self) -> Result<Vec<(PathBuf, SavedGroup)>, Error> {
        let mut groups = Vec::new();
        for path in self.json_files("groups")? {
            let Some(saved) = checked(&path, read_checked::<SavedGroup>(&path))? else {
                continue;
            };
            if !self.groups.note(&saved.group, &stem(&path)) {
                let what = format!("it holds the group {}", saved.group);
                return Err(Error::DataDirDamaged { file: path, what });
            }
            groups.push((path, saved));
        }
        Ok(groups)
    }

    pub(crate) fn save_group(&self, saved: &SavedGroup) -> io::Result<()> {
        self.disk.replace(&self.group_path(&saved.group), saved)
    }

    pub(crate) fn delete_group(&self, id: &str) -> io::Result<()> {
        remove_if_there(&self.group_path(id))?;
        self.groups.forget(id);
        Ok(())
    }

    fn group_path(&self, group: &str) -> PathBuf {
        let name = format!("{}.json", self.groups.of(group));
        self.root.join("groups").join(name)
    }
}
