//! Brings back what a data directory holds.
//!
//! Logs are opened several at a time: each is one stream of reads, and what keeps a start waiting is the disk.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::cluster::{Cluster, Partition, Topic};
use crate::context::Shared;
use crate::damage::Damage;
use crate::error::Error;
use crate::group::share::saved::LogRanges;
use crate::log::Log;
use crate::storage::{DataDir, SavedTopic};
use crate::topic_config::TopicConfig;

/// Takes over topics, groups and transactions; nothing without a data directory. Returns what was found wrong.
///
/// # Errors
/// If the directory cannot be read, or a file that says what there is to serve is damaged.
pub(crate) fn recover(shared: &Shared) -> Result<Vec<Damage>, Error> {
    let Some(data_dir) = &shared.data_dir else {
        return Ok(Vec::new());
    };
    *shared.settings.lock() = data_dir.settings()?;
    let saved = data_dir.topics()?;
    let configs = saved
        .iter()
        .map(|topic| config_of(shared, data_dir, topic))
        .collect::<Result<Vec<_>, _>>()?;
    let mut logs = open_logs(shared, data_dir, &saved, &configs)?.into_iter();
    let mut damage = Vec::new();
    let mut next_producer_id = data_dir.next_producer_id();
    for (topic, config) in saved.iter().zip(configs) {
        let mut logs: Vec<Log> = logs.by_ref().take(topic.replicas.len()).collect();
        for log in &mut logs {
            damage.extend(log.take_damage());
            let newest = log.producers().iter().map(|(id, _)| id).max();
            next_producer_id = next_producer_id.max(newest.unwrap_or(-1) + 1);
        }
        let topic = topic_of(shared, data_dir, topic, config, logs)?;
        shared.cluster.write().add_topic(topic);
    }
    for damage in &damage {
        tracing::warn!("{damage}");
    }
    shared
        .cluster
        .write()
        .reserve_producer_ids(next_producer_id);
    recover_groups(shared, data_dir)?;
    shared.recover_transactions(data_dir.transactions()?);
    Ok(damage)
}

fn recover_groups(shared: &Shared, data_dir: &DataDir) -> Result<(), Error> {
    let (view, logs) = {
        let cluster = shared.cluster.read();
        (cluster.topics_view(), log_ranges(&cluster))
    };
    {
        let configs = shared.settings.lock().groups.clone();
        let mut groups = shared.groups.lock();
        let (settings, now) = (groups.consumer_settings(), shared.now());
        for (file, saved) in data_dir.groups()? {
            let group = groups.get_or_create(&saved.group, now);
            group.offsets = saved.offsets();
            // A crash may have come between a topic's deletion and the writing of those who had read it.
            group
                .offsets
                .retain(|topic, _| view.by_name.contains_key(topic));
            match (saved.share, saved.consumer) {
                (Some(share), _) => {
                    let restored = share.restore(configs.of(&saved.group), &logs);
                    group.share =
                        Some(restored.map_err(|what| Error::DataDirDamaged { file, what })?);
                }
                (None, Some(consumer)) => {
                    group.consumer = Some(consumer.restore(settings, &view, now));
                }
                (None, None) => group.classic.restore(saved.protocol_type),
            }
        }
    }
    Ok(())
}

fn log_ranges(cluster: &Cluster) -> LogRanges {
    let mut ranges = LogRanges::new();
    for topic in cluster.topics() {
        for partition in &topic.partitions {
            let log = &partition.state.lock().log;
            let range = (log.start_offset(), log.end_offset());
            ranges.insert((topic.id, partition.index), range);
        }
    }
    ranges
}

fn damaged(data_dir: &DataDir, topic: &SavedTopic, what: String) -> Error {
    Error::DataDirDamaged {
        file: data_dir.topic_path(&topic.name),
        what,
    }
}

fn config_of(
    shared: &Shared,
    data_dir: &DataDir,
    topic: &SavedTopic,
) -> Result<TopicConfig, Error> {
    let config = topic
        .config
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    TopicConfig::with_defaults(&shared.options.topic_defaults, config)
        .map_err(|what| damaged(data_dir, topic, what))
}

/// Opens the logs of all partitions, and returns them in the order of topics and partitions.
fn open_logs(
    shared: &Shared,
    data_dir: &DataDir,
    topics: &[SavedTopic],
    configs: &[TopicConfig],
) -> Result<Vec<Log>, Error> {
    let partitions: Vec<(&SavedTopic, &TopicConfig, usize)> = topics
        .iter()
        .zip(configs)
        .flat_map(|(topic, config)| {
            (0..topic.replicas.len()).map(move |index| (topic, config, index))
        })
        .collect();
    let now_ms = shared.now_ms();
    let open = |(topic, config, index): (&SavedTopic, &TopicConfig, usize)| {
        data_dir
            .open_log(&topic.name, index, config.log, now_ms)
            .map_err(|source| Error::DataDir {
                path: data_dir.log_dir(&topic.name, index),
                source,
            })
    };
    let readers = readers_at_once().min(partitions.len());
    if readers <= 1 {
        return partitions.into_iter().map(open).collect();
    }
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(partitions.len()));
    thread::scope(|scope| {
        let read = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(partition) = partitions.get(place) else {
                    break;
                };
                let log = open(*partition);
                if log.is_err() {
                    // There will be no start, so the others need not be opened.
                    next.store(partitions.len(), Ordering::Relaxed);
                }
                opened.lock().push((place, log));
            }
        };
        // This thread reads too, so logs are opened even where no thread can be had.
        for _ in 1..readers {
            if let Err(error) = spawn(scope, read) {
                tracing::debug!(%error, "logs are opened by fewer threads");
                break;
            }
        }
        read();
    });
    let mut opened = opened.into_inner();
    opened.sort_unstable_by_key(|(place, _)| *place);
    opened.into_iter().map(|(_, log)| log).collect()
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    thread::Builder::new().spawn_scoped(scope, work).map(drop)
}

/// More than there are processors, for most of the time each waits for the disk.
fn readers_at_once() -> usize {
    2 * thread::available_parallelism().map_or(1, NonZero::get)
}

fn topic_of(
    shared: &Shared,
    data_dir: &DataDir,
    saved: &SavedTopic,
    config: TopicConfig,
    logs: Vec<Log>,
) -> Result<Topic, Error> {
    let id = saved
        .id
        .parse()
        .map_err(|_| damaged(data_dir, saved, format!("{} is no topic id", saved.id)))?;
    let live: BTreeSet<i32> = shared.cluster.read().live();
    let mut partitions = Vec::new();
    for (index, (replicas, log)) in (0..).zip(saved.replicas.iter().zip(logs)) {
        // The cluster may have fewer nodes than when the topic was made.
        let mut replicas: Vec<i32> = replicas
            .iter()
            .copied()
            .filter(|id| live.contains(id))
            .collect();
        if replicas.is_empty() {
            replicas = shared.cluster.read().place(None, index, 1);
        }
        partitions.push(Arc::new(Partition::new(index, replicas, &live, log)));
    }
    Ok(Topic {
        name: saved.name.clone(),
        id,
        internal: false,
        config: Arc::new(config),
        partitions,
    })
}
