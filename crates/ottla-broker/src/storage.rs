//! The data directory: where logs, topics, committed offsets and the next producer id outlive the process.
//!
//! Layout, version 1:
//!
//! ```text
//! broker.json                     version, cluster id
//! broker.lock                     held while a broker uses the directory
//! producer-ids                    the first producer id that was never handed out
//! topics/NAME.json                id, settings, replicas of each partition
//! groups/HEX.json                 committed offsets of one group
//! logs/NAME-INDEX/OFFSET.log      record batches, as Apache Kafka writes them
//! ```
//!
//! Every JSON file is replaced as a whole by renaming a finished one over it, so that a crash leaves the old or
//! the new one.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use ottla_wire::Uuid;
use serde::{Deserialize, Serialize};

use crate::cluster::Topic;
use crate::group::offsets::{Committed, Offsets};
use crate::log::{Log, LogSettings};

/// An open data directory; nobody else can open it meanwhile.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    cluster_id: String,
    /// Locked for as long as it is open.
    _lock: File,
}

/// A topic as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedTopic {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) replicas: Vec<Vec<i32>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedBroker {
    version: u32,
    cluster_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedGroup {
    group: String,
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

impl DataDir {
    /// Opens the directory, or makes it with `new_cluster_id`.
    ///
    /// # Errors
    /// If it is in use, was written by another version, or cannot be read or written.
    pub(crate) fn open(root: &Path, new_cluster_id: impl FnOnce() -> String) -> io::Result<Self> {
        for dir in ["topics", "groups", "logs"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("broker.lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is in use by another broker", root.display());
                return Err(io::Error::new(ErrorKind::ResourceBusy, message));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let path = root.join("broker.json");
        let saved: SavedBroker = match read_json(&path)? {
            Some(saved) => saved,
            None => {
                let saved = SavedBroker {
                    version: VERSION,
                    cluster_id: new_cluster_id(),
                };
                write_json(&path, &saved)?;
                saved
            }
        };
        if saved.version != VERSION {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!(
                    "{} was written in version {} of the layout; this broker knows version {VERSION}",
                    root.display(),
                    saved.version
                ),
            ));
        }
        Ok(Self {
            root: root.to_owned(),
            cluster_id: saved.cluster_id,
            _lock: lock,
        })
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Every topic that was saved.
    pub(crate) fn topics(&self) -> io::Result<Vec<SavedTopic>> {
        let mut topics = Vec::new();
        for path in json_files(&self.root.join("topics"))? {
            topics.extend(read_json::<SavedTopic>(&path)?);
        }
        Ok(topics)
    }

    pub(crate) fn save_topic(&self, topic: &Topic) -> io::Result<()> {
        let saved = SavedTopic {
            name: topic.name.clone(),
            id: topic.id.to_string(),
            config: topic
                .config
                .overrides()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            replicas: topic
                .partitions
                .iter()
                .map(|p| p.replicas.clone())
                .collect(),
        };
        write_json(&self.topic_path(&topic.name), &saved)
    }

    /// Removes a topic: first its name, so that a crash leaves logs that the next start cleans up.
    pub(crate) fn delete_topic(&self, topic: &Topic) -> io::Result<()> {
        remove_if_there(&self.topic_path(&topic.name))?;
        for partition in &topic.partitions {
            let dir = self.log_dir(&topic.name, partition.index as usize);
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a new partition's log; what a deleted topic of that name left behind goes.
    pub(crate) fn new_log(
        &self,
        topic: &str,
        partition: usize,
        settings: LogSettings,
        now_ms: i64,
    ) -> io::Result<Log> {
        let dir = self.log_dir(topic, partition);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Log::open(&dir, settings, now_ms)
    }

    /// Opens a partition's log and cuts what a crash left torn.
    pub(crate) fn open_log(
        &self,
        topic: &str,
        partition: usize,
        settings: LogSettings,
        now_ms: i64,
    ) -> io::Result<Log> {
        Log::open(&self.log_dir(topic, partition), settings, now_ms)
    }

    /// Committed offsets of every group.
    pub(crate) fn groups(&self) -> io::Result<Vec<(String, Offsets)>> {
        let mut groups = Vec::new();
        for path in json_files(&self.root.join("groups"))? {
            let Some(saved) = read_json::<SavedGroup>(&path)? else {
                continue;
            };
            let mut offsets = Offsets::default();
            for saved in saved.offsets {
                let committed = Committed {
                    offset: saved.offset,
                    leader_epoch: saved.leader_epoch,
                    metadata: saved.metadata,
                    commit_time_ms: saved.commit_time_ms,
                };
                offsets.commit(&saved.topic, saved.partition, committed);
            }
            groups.push((saved.group, offsets));
        }
        Ok(groups)
    }

    pub(crate) fn save_offsets(&self, group: &str, offsets: &Offsets) -> io::Result<()> {
        let offsets = offsets
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
        write_json(
            &self.group_path(group)?,
            &SavedGroup {
                group: group.to_owned(),
                offsets,
            },
        )
    }

    pub(crate) fn delete_offsets(&self, group: &str) -> io::Result<()> {
        remove_if_there(&self.group_path(group)?)
    }

    /// The first producer id that certainly was never handed out.
    pub(crate) fn next_producer_id(&self) -> io::Result<i64> {
        match fs::read_to_string(self.root.join("producer-ids")) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::new(
                    ErrorKind::InvalidData,
                    "the file producer-ids holds no number",
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Notes that every id below `next` may be in use.
    pub(crate) fn save_producer_id_block(&self, next: i64) -> io::Result<()> {
        let block_end = (next / PRODUCER_ID_BLOCK + 1) * PRODUCER_ID_BLOCK;
        replace(
            &self.root.join("producer-ids"),
            block_end.to_string().as_bytes(),
        )
    }

    /// Notes that `used` was handed out; ids are set aside in blocks, so most calls write nothing.
    pub(crate) fn save_producer_id(&self, used: i64) -> io::Result<()> {
        if used % PRODUCER_ID_BLOCK != 0 {
            return Ok(());
        }
        self.save_producer_id_block(used)
    }

    fn topic_path(&self, name: &str) -> PathBuf {
        self.root.join("topics").join(format!("{name}.json"))
    }

    fn log_dir(&self, topic: &str, partition: usize) -> PathBuf {
        self.root.join("logs").join(format!("{topic}-{partition}"))
    }

    fn group_path(&self, group: &str) -> io::Result<PathBuf> {
        if group.len() > GROUP_LEN_MAX {
            let message = format!("group ids of more than {GROUP_LEN_MAX} bytes cannot be kept");
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let hex: String = group.bytes().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.root.join("groups").join(format!("{hex}.json")))
    }
}

impl SavedTopic {
    pub(crate) fn parsed_id(&self) -> io::Result<Uuid> {
        self.id.parse().map_err(|_| {
            let message = format!("the topic {} has the impossible id {}", self.name, self.id);
            io::Error::new(ErrorKind::InvalidData, message)
        })
    }
}

fn json_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    replace(path, &bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const VERSION: u32 = 1;
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Twice as many hexadecimal digits and an ending must fit into a file name.
const GROUP_LEN_MAX: usize = 120;
