//! Creating, growing and deleting topics, for every API that can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_wire::{ErrorCode, Uuid};

use crate::cluster::{Cluster, Partition, Topic};
use crate::context::Shared;
use crate::log::Log;
use crate::topic_config::TopicConfig;

/// A topic to be made. What is not said follows the broker's options.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: Option<i32>,
    pub(crate) replication: Option<i16>,
    /// Replicas of each partition, by index; instead of the two numbers.
    pub(crate) assignment: BTreeMap<i32, Vec<i32>>,
    pub(crate) config: Vec<(String, String)>,
}

/// Why a topic was not made or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicError {
    pub(crate) error: ErrorCode,
    pub(crate) message: String,
}

/// Makes a topic; with `validate_only`, just says what would be made.
pub(crate) fn create(
    shared: &Shared,
    new: &NewTopic,
    validate_only: bool,
) -> Result<Topic, TopicError> {
    check_name(&new.name)?;
    let config = new
        .config
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let config = TopicConfig::with_defaults(&shared.options.topic_defaults, config)
        .map_err(|message| TopicError::new(ErrorCode::INVALID_CONFIG, message))?;
    let mut cluster = shared.cluster.write();
    if cluster.topic(&new.name).is_some() {
        let message = format!("Topic '{}' already exists.", new.name);
        return Err(TopicError::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
    }
    let replicas = replicas(&cluster, shared, new)?;
    let id = random_id(&cluster);
    let mut topic = Topic {
        name: new.name.clone(),
        id,
        internal: false,
        config: Arc::new(config),
        partitions: Vec::new(),
    };
    if validate_only {
        let settings = topic.config.log;
        let logs = replicas.iter().map(|_| Ok(Log::in_memory(settings, 0)));
        topic.partitions = partitions(&cluster, 0, replicas.clone(), logs)?;
        return Ok(topic);
    }
    grow(shared, &cluster, &mut topic, replicas)?;
    if let Some(data_dir) = &shared.data_dir {
        data_dir.save_topic(&topic).map_err(TopicError::storage)?;
    }
    cluster.add_topic(topic.clone());
    Ok(topic)
}

/// Gives a topic more partitions, up to `count`.
pub(crate) fn add_partitions(
    shared: &Shared,
    name: &str,
    count: i32,
    assignment: &[Vec<i32>],
    validate_only: bool,
) -> Result<(), TopicError> {
    let mut cluster = shared.cluster.write();
    let Some(topic) = cluster.topic(name) else {
        let message = "This server does not host this topic-partition.";
        return Err(TopicError::new(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            message,
        ));
    };
    let have = topic.partitions.len() as i32;
    if count <= have {
        let message = format!(
            "The topic {name} currently has {have} partition(s); {count} would not be an increase."
        );
        return Err(TopicError::new(ErrorCode::INVALID_PARTITIONS, message));
    }
    check_count(&cluster, shared, count, have)?;
    let replication = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.state.lock().replicas.len());
    let added = (count - have) as usize;
    let replicas: Vec<Vec<i32>> = if assignment.is_empty() {
        (have..count)
            .map(|index| cluster.place(Some(topic), index, replication))
            .collect()
    } else if assignment.len() == added {
        assignment.to_vec()
    } else {
        let message = format!(
            "{} assignments were given for {added} partitions",
            assignment.len()
        );
        return Err(TopicError::new(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            message,
        ));
    };
    check_replicas(&cluster, &replicas)?;
    if validate_only {
        return Ok(());
    }
    let mut topic = Topic::clone(topic);
    grow(shared, &cluster, &mut topic, replicas)?;
    if let Some(data_dir) = &shared.data_dir {
        data_dir.save_topic(&topic).map_err(TopicError::storage)?;
    }
    cluster.add_topic(topic);
    Ok(())
}

/// Deletes a topic with all that is in it.
pub(crate) fn delete(shared: &Shared, name: &str) -> Result<Arc<Topic>, TopicError> {
    // Held throughout: who makes a topic of that name at once must not have its new logs removed.
    let mut cluster = shared.cluster.write();
    if let Some(data_dir) = &shared.data_dir
        && cluster.topic(name).is_some()
    {
        data_dir.mark_deleted(name).map_err(TopicError::storage)?;
    }
    let topic = cluster.remove_topic(name).ok_or_else(|| {
        let message = "This server does not host this topic-partition.";
        TopicError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
    })?;
    // Under the same lock: a topic that is made anew may be read and committed at once.
    let had_offsets = shared.groups.lock().forget_topic(name, topic.id);
    if let Some(data_dir) = &shared.data_dir
        && let Err(error) = data_dir.remove_deleted(&topic)
    {
        tracing::warn!(topic = name, %error, "not all files of a deleted topic could be removed");
    }
    drop(cluster);
    for group in had_offsets {
        if let Err(error) = shared.keep_group(&group) {
            tracing::error!(group, %error, "cannot write that offsets of a deleted topic are gone");
        }
    }
    Ok(topic)
}

/// Moves a partition to the nodes `replicas`; `None` stops a move that is under way, which there never is, for it
/// takes no time. With `same_count`, it must be as many nodes as before.
pub(crate) fn reassign(
    shared: &Shared,
    name: &str,
    partition: i32,
    replicas: Option<&[i32]>,
    same_count: bool,
) -> Result<(), TopicError> {
    let cluster = shared.cluster.write();
    let topic = cluster.topic(name);
    let found = topic.and_then(|topic| Some((topic, topic.partition(partition)?)));
    let Some((topic, partition)) = found else {
        let message = "This server does not host this topic-partition.";
        return Err(TopicError::new(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            message,
        ));
    };
    let Some(replicas) = replicas else {
        return Err(TopicError::new(
            ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            ErrorCode::NO_REASSIGNMENT_IN_PROGRESS.meaning(),
        ));
    };
    check_replicas(&cluster, &[replicas.to_vec()])?;
    let live = cluster.live();
    if !replicas.iter().any(|id| live.contains(id)) {
        let message = format!("None of the replicas {replicas:?} is up.");
        return Err(TopicError::new(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            message,
        ));
    }
    let before = {
        let mut state = partition.state.lock();
        let (had, wanted) = (state.replicas.len(), replicas.len());
        if same_count && had != wanted {
            let message = format!("The replication factor is {had}, {wanted} replicas were given.");
            return Err(TopicError::new(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                message,
            ));
        }
        let before = state.replicas.clone();
        state.reassign(replicas.to_vec(), &live);
        before
    };
    if let Some(data_dir) = &shared.data_dir
        && let Err(error) = data_dir.save_topic(topic)
    {
        partition.state.lock().reassign(before, &live);
        return Err(TopicError::storage(error));
    }
    Ok(())
}

/// Gives a topic other settings.
pub(crate) fn reconfigure(
    shared: &Shared,
    name: &str,
    validate_only: bool,
    changed: impl FnOnce(&TopicConfig) -> Result<TopicConfig, String>,
) -> Result<(), TopicError> {
    let mut cluster = shared.cluster.write();
    let Some(topic) = cluster.topic_mut(name) else {
        let message = format!("The topic '{name}' does not exist.");
        return Err(TopicError::new(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            message,
        ));
    };
    let config = changed(&topic.config)
        .map_err(|message| TopicError::new(ErrorCode::INVALID_CONFIG, message))?;
    if validate_only {
        return Ok(());
    }
    let before = std::mem::replace(&mut topic.config, Arc::new(config));
    if let Some(data_dir) = &shared.data_dir
        && let Err(error) = data_dir.save_topic(topic)
    {
        topic.config = before;
        return Err(TopicError::storage(error));
    }
    for partition in &topic.partitions {
        partition.state.lock().log.set_settings(topic.config.log);
    }
    Ok(())
}

/// Whether a topic may have this name.
pub(crate) fn check_name(name: &str) -> Result<(), TopicError> {
    let invalid =
        |message: String| Err(TopicError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    if name.is_empty() || name == "." || name == ".." {
        return invalid(format!("Topic name is invalid: it cannot be '{name}'"));
    }
    if name.len() > NAME_LEN_MAX {
        return invalid(format!(
            "Topic name is invalid: longer than {NAME_LEN_MAX} characters"
        ));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return invalid(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

fn replicas(
    cluster: &Cluster,
    shared: &Shared,
    new: &NewTopic,
) -> Result<Vec<Vec<i32>>, TopicError> {
    if !new.assignment.is_empty() {
        let consecutive = new
            .assignment
            .keys()
            .copied()
            .eq(0..new.assignment.len() as i32);
        if !consecutive {
            let message = "Partitions should be a consecutive 0-based integer sequence.";
            return Err(TopicError::new(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                message,
            ));
        }
        let replicas: Vec<Vec<i32>> = new.assignment.values().cloned().collect();
        check_count(cluster, shared, replicas.len() as i32, 0)?;
        check_replicas(cluster, &replicas)?;
        return Ok(replicas);
    }
    let count = new.partitions.unwrap_or(shared.options.partitions);
    check_count(cluster, shared, count, 0)?;
    let nodes = cluster.nodes.len();
    let replication = match new.replication {
        None => usize::try_from(shared.options.replication)
            .unwrap_or(1)
            .clamp(1, nodes),
        Some(wanted) => match usize::try_from(wanted) {
            Ok(wanted) if (1..=nodes).contains(&wanted) => wanted,
            _ => {
                let message = format!(
                    "Unable to replicate the partition {wanted} time(s): only {nodes} broker(s) are registered."
                );
                return Err(TopicError::new(
                    ErrorCode::INVALID_REPLICATION_FACTOR,
                    message,
                ));
            }
        },
    };
    Ok((0..count)
        .map(|index| cluster.place(None, index, replication))
        .collect())
}

/// Whether a topic that has `have` partitions may have `count`.
fn check_count(
    cluster: &Cluster,
    shared: &Shared,
    count: i32,
    have: i32,
) -> Result<(), TopicError> {
    if count < 1 {
        let message = format!("Number of partitions must be larger than 0, not {count}.");
        return Err(TopicError::new(ErrorCode::INVALID_PARTITIONS, message));
    }
    let (max, all) = (shared.options.partitions_max, cluster.partition_count());
    if all + (count - have) as usize > max {
        let message = format!(
            "This broker holds at most {max} partitions and has {all} already; {count} for one topic are too many."
        );
        return Err(TopicError::new(ErrorCode::POLICY_VIOLATION, message));
    }
    Ok(())
}

fn check_replicas(cluster: &Cluster, replicas: &[Vec<i32>]) -> Result<(), TopicError> {
    for (index, nodes) in replicas.iter().enumerate() {
        let distinct: BTreeSet<&i32> = nodes.iter().collect();
        let known = nodes.iter().all(|id| cluster.nodes.contains_key(id));
        if nodes.is_empty() || distinct.len() != nodes.len() || !known {
            let message = format!(
                "The replicas {nodes:?} of partition {index} are not distinct known brokers."
            );
            return Err(TopicError::new(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                message,
            ));
        }
    }
    Ok(())
}

/// Appends partitions with these replicas to `topic`, each with a new log.
fn grow(
    shared: &Shared,
    cluster: &Cluster,
    topic: &mut Topic,
    replicas: Vec<Vec<i32>>,
) -> Result<(), TopicError> {
    let first = topic.partitions.len();
    let settings = topic.config.log;
    let now_ms = shared.now_ms();
    let logs = (first..first + replicas.len()).map(|index| match &shared.data_dir {
        None => Ok(Log::in_memory(settings, now_ms)),
        Some(data_dir) => data_dir.new_log(&topic.name, index, settings, now_ms),
    });
    let added = partitions(cluster, first as i32, replicas, logs)?;
    topic.partitions.extend(added);
    Ok(())
}

fn partitions(
    cluster: &Cluster,
    first: i32,
    replicas: Vec<Vec<i32>>,
    logs: impl Iterator<Item = std::io::Result<Log>>,
) -> Result<Vec<Arc<Partition>>, TopicError> {
    let live = cluster.live();
    (first..)
        .zip(replicas)
        .zip(logs)
        .map(|((index, replicas), log)| {
            let log = log.map_err(TopicError::storage)?;
            Ok(Arc::new(Partition::new(index, replicas, &live, log)))
        })
        .collect()
}

fn random_id(cluster: &Cluster) -> Uuid {
    loop {
        let id = Uuid(fastrand::u128(..).to_be_bytes());
        // Kafka keeps the ids below 2^64 for itself.
        if id.0[..8] != [0; 8] && cluster.topic_by_id(id).is_none() {
            return id;
        }
    }
}

impl TopicError {
    fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error,
            message: message.into(),
        }
    }

    fn storage(error: std::io::Error) -> Self {
        let message = format!("the broker cannot write to its data directory: {error}");
        Self::new(ErrorCode::KAFKA_STORAGE_ERROR, message)
    }
}

/// Kafka's limit: a partition's folder name must fit into a file name.
const NAME_LEN_MAX: usize = 249;
