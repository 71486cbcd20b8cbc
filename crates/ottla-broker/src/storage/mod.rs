//! The data directory: where logs, topics, committed offsets and the next producer id outlive the process.
//!
//! Layout, version 2:
//!
//! ```text
//! broker.json                     version, cluster id
//! broker.lock                     held while a broker uses the directory
//! producer-ids.json               the first producer id that was never handed out
//! settings.json                   what operators set while the cluster ran
//! topics/NAME.json                id, settings, replicas of each partition
//! deleted/NAME.json               the same of a topic whose logs are being removed
//! groups/HEX.json                 kind, committed offsets and, of a share group, records' states of one group
//! transactions/HEX.json           the state of one transactional id
//! .../long-NUMBER.json            the same of an id that is too long for a file's name
//! logs/NAME-INDEX/OFFSET.log      record batches, as Apache Kafka writes them
//! logs/NAME-INDEX/checkpoint      where the log starts, and its leader epochs
//! ```
//!
//! Every file but the batches is replaced as a whole by renaming a finished one over it, so that a crash leaves
//! the old or the new one, and carries a checksum, so that one that was changed is noticed. Batches are written in
//! place; they outlive a crash of the process at once, a crash of the machine only with `flush.messages=1`.
//!
//! What is not named here is left alone.

mod groups;
mod names;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::cluster::Topic;
use crate::disk::{Disk, ReadError, at, read_checked};
use crate::error::Error;
use crate::log::{Log, LogSettings};
use crate::settings::ClusterSettings;
use crate::transaction::Transaction;

pub(crate) use groups::SavedGroup;
use names::FileNames;

/// An open data directory; nobody else can open it meanwhile.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    cluster_id: String,
    disk: Arc<Disk>,
    /// No producer id from here on was handed out.
    producer_ids_end: Mutex<i64>,
    groups: FileNames,
    transactions: FileNames,
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

/// What every version's file has.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

impl DataDir {
    /// Opens the directory, or makes it with `new_cluster_id`.
    ///
    /// # Errors
    /// If it is in use, was written by another version, is damaged, or cannot be read or written.
    pub(crate) fn open(
        root: &Path,
        new_cluster_id: impl FnOnce() -> String,
    ) -> Result<Self, Error> {
        let failed = |error| Error::DataDir {
            path: root.to_owned(),
            source: error,
        };
        fs::create_dir_all(root).map_err(failed)?;
        // Apache Kafka's own directories begin with this file.
        if root.join("meta.properties").exists() {
            return Err(Error::DataDirVersion {
                path: root.to_owned(),
                found: "a data directory of Apache Kafka".to_owned(),
            });
        }
        let lock = lock(root)?;
        let path = root.join("broker.json");
        let disk = Arc::new(Disk::default());
        let cluster_id = match broker_file(root, &path)? {
            Some(saved) => saved.cluster_id,
            None => {
                let cluster_id = new_cluster_id();
                let saved = SavedBroker {
                    version: VERSION,
                    cluster_id: cluster_id.clone(),
                };
                disk.replace(&path, &saved).map_err(failed)?;
                cluster_id
            }
        };
        for dir in FOLDERS {
            fs::create_dir_all(root.join(dir)).map_err(failed)?;
        }
        let path = root.join("producer-ids.json");
        let producer_ids_end = checked(&path, read_checked::<i64>(&path))?.unwrap_or(0);
        let opened = Self {
            root: root.to_owned(),
            cluster_id,
            disk,
            producer_ids_end: Mutex::new(producer_ids_end),
            groups: FileNames::default(),
            transactions: FileNames::default(),
            _lock: lock,
        };
        opened.finish_deletions().map_err(failed)?;
        Ok(opened)
    }

    /// Lets a test fill the disk: only so many more bytes are taken; `None` lifts the limit.
    pub(crate) fn limit(&self, bytes: Option<u64>) {
        self.disk.limit(bytes);
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Every topic that was saved.
    pub(crate) fn topics(&self) -> Result<Vec<SavedTopic>, Error> {
        let mut topics = Vec::new();
        for path in self.json_files("topics")? {
            let Some(topic) = checked(&path, read_checked::<SavedTopic>(&path))? else {
                continue;
            };
            if self.topic_path(&topic.name) != path {
                let what = format!("it holds the topic {}", topic.name);
                return Err(Error::DataDirDamaged { file: path, what });
            }
            topics.push(topic);
        }
        Ok(topics)
    }

    /// The file that holds a topic, for messages about what is in it.
    pub(crate) fn topic_path(&self, name: &str) -> PathBuf {
        self.root.join("topics").join(format!("{name}.json"))
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
                .map(|p| p.state.lock().replicas.clone())
                .collect(),
        };
        self.disk.replace(&self.topic_path(&topic.name), &saved)?;
        // What was not removed of an older topic of that name is this one's now.
        remove_if_there(&self.deleted_path(&topic.name))
    }

    /// Takes note that a topic is deleted: from here on it does not come back.
    pub(crate) fn mark_deleted(&self, topic: &str) -> io::Result<()> {
        let from = self.topic_path(topic);
        match fs::rename(&from, self.deleted_path(topic)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&from, &error)),
            _ => Ok(()),
        }
    }

    /// Removes the logs of a topic that was marked. What remains of them after a crash, the next start removes.
    pub(crate) fn remove_deleted(&self, topic: &Topic) -> io::Result<()> {
        self.remove_logs(&topic.name, topic.partitions.len())
    }

    fn finish_deletions(&self) -> io::Result<()> {
        for path in json_files(&self.root.join("deleted"))? {
            match read_checked::<SavedTopic>(&path) {
                // It was made anew.
                Ok(Some(topic)) if self.topic_path(&topic.name).exists() => remove_if_there(&path)?,
                Ok(Some(topic)) if self.deleted_path(&topic.name) == path => {
                    self.remove_logs(&topic.name, topic.replicas.len())?;
                }
                Ok(_) | Err(ReadError::Damaged(_)) => {
                    tracing::warn!(path = %path.display(), "damaged; a deleted topic's logs stay");
                }
                Err(ReadError::Io(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn remove_logs(&self, topic: &str, partitions: usize) -> io::Result<()> {
        for index in 0..partitions {
            remove_dir_if_there(&self.log_dir(topic, index))?;
        }
        remove_if_there(&self.deleted_path(topic))
    }

    /// Makes a new partition's log; what a deleted topic of that name left behind goes.
    pub(crate) fn new_log(
        &self,
        topic: &str,
        partition: usize,
        settings: LogSettings,
        now_ms: i64,
    ) -> io::Result<Log> {
        remove_dir_if_there(&self.log_dir(topic, partition))?;
        self.open_log(topic, partition, settings, now_ms)
    }

    /// Opens a partition's log and cuts what a crash left torn.
    pub(crate) fn open_log(
        &self,
        topic: &str,
        partition: usize,
        settings: LogSettings,
        now_ms: i64,
    ) -> io::Result<Log> {
        let dir = self.log_dir(topic, partition);
        Log::open(&dir, Arc::clone(&self.disk), settings, now_ms)
    }

    /// What operators set.
    pub(crate) fn settings(&self) -> Result<ClusterSettings, Error> {
        let path = self.settings_path();
        Ok(checked(&path, read_checked(&path))?.unwrap_or_default())
    }

    pub(crate) fn save_settings(&self, settings: &ClusterSettings) -> io::Result<()> {
        self.disk.replace(&self.settings_path(), settings)
    }

    fn settings_path(&self) -> PathBuf {
        self.root.join("settings.json")
    }

    /// Every transactional id.
    pub(crate) fn transactions(&self) -> Result<Vec<(String, Transaction)>, Error> {
        let mut transactions = Vec::new();
        for path in self.json_files("transactions")? {
            let read = read_checked::<(String, Transaction)>(&path);
            let Some((id, transaction)) = checked(&path, read)? else {
                continue;
            };
            if !self.transactions.note(&id, &stem(&path)) {
                let what = format!("it holds the transactional id {id}");
                return Err(Error::DataDirDamaged { file: path, what });
            }
            transactions.push((id, transaction));
        }
        Ok(transactions)
    }

    pub(crate) fn save_transaction(&self, id: &str, transaction: &Transaction) -> io::Result<()> {
        self.disk
            .replace(&self.transaction_path(id), &(id, transaction))
    }

    pub(crate) fn delete_transaction(&self, id: &str) -> io::Result<()> {
        remove_if_there(&self.transaction_path(id))?;
        self.transactions.forget(id);
        Ok(())
    }

    fn transaction_path(&self, id: &str) -> PathBuf {
        let name = format!("{}.json", self.transactions.of(id));
        self.root.join("transactions").join(name)
    }

    /// The first producer id that certainly was never handed out.
    pub(crate) fn next_producer_id(&self) -> i64 {
        *self.producer_ids_end.lock()
    }

    /// Notes that `used` is handed out; ids are set aside in blocks, so most calls write nothing. After an error it
    /// must not be.
    pub(crate) fn save_producer_id(&self, used: i64) -> io::Result<()> {
        let mut end = self.producer_ids_end.lock();
        if used < *end {
            return Ok(());
        }
        let block_end = (used / PRODUCER_ID_BLOCK + 1) * PRODUCER_ID_BLOCK;
        self.disk
            .replace(&self.root.join("producer-ids.json"), &block_end)?;
        *end = block_end;
        Ok(())
    }

    fn json_files(&self, folder: &str) -> Result<Vec<PathBuf>, Error> {
        json_files(&self.root.join(folder)).map_err(|source| Error::DataDir {
            path: self.root.clone(),
            source,
        })
    }

    fn deleted_path(&self, name: &str) -> PathBuf {
        self.root.join("deleted").join(format!("{name}.json"))
    }

    pub(crate) fn log_dir(&self, topic: &str, partition: usize) -> PathBuf {
        self.root.join("logs").join(format!("{topic}-{partition}"))
    }
}

/// Makes sure that nobody else uses the directory. The system lets go of the lock when the process ends, however.
fn lock(root: &Path) -> Result<File, Error> {
    let failed = |source| Error::DataDir {
        path: root.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("broker.lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::DataDirInUse {
            path: root.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Reads what says which layout this is; `None` in a directory that no broker has used.
fn broker_file(root: &Path, path: &Path) -> Result<Option<SavedBroker>, Error> {
    // The version alone comes first: files of other versions may look different in everything else.
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let used = FOLDERS.iter().any(|folder| {
                fs::read_dir(root.join(folder)).is_ok_and(|mut entries| entries.next().is_some())
            });
            if used {
                let what = "it is missing, and there is data beside it".to_owned();
                return Err(Error::DataDirDamaged {
                    file: path.to_owned(),
                    what,
                });
            }
            return Ok(None);
        }
        Err(source) => {
            return Err(Error::DataDir {
                path: root.to_owned(),
                source,
            });
        }
    };
    let first_line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Ok(Versioned { version }) = serde_json::from_slice(first_line)
        && version != VERSION
    {
        // A changed digit would look like another version, if it were not for the checksum.
        if version == 1 || checked(path, read_checked::<Versioned>(path)).is_ok() {
            return Err(Error::DataDirVersion {
                path: root.to_owned(),
                found: format!("version {version} of the layout"),
            });
        }
    }
    checked(path, read_checked(path))
}

/// A read's result as the whole broker's.
fn checked<T>(path: &Path, read: Result<T, ReadError>) -> Result<T, Error> {
    read.map_err(|error| match error {
        ReadError::Io(source) => Error::DataDir {
            path: path.to_owned(),
            source,
        },
        ReadError::Damaged(what) => Error::DataDirDamaged {
            file: path.to_owned(),
            what,
        },
    })
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

/// A file's name without its ending.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

fn remove_dir_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

const FOLDERS: [&str; 5] = ["topics", "deleted", "groups", "transactions", "logs"];

/// The layout that this broker writes; the one number to change with it.
pub(crate) const VERSION: u32 = 2;
const PRODUCER_ID_BLOCK: i64 = 1000;
