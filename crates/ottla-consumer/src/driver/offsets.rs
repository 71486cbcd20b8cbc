//! Questions to the cluster about offsets: ListOffsets and OffsetForLeaderEpoch to the leaders,
//! OffsetFetch to the coordinator. What positions and the application's questions have in common.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_net::{CoordinatorKind, Lane, To};
use ottla_wire::{
    ErrorCode,
    messages::{
        list_offsets::{
            ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
            ListOffsetsTopic,
        },
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
            OffsetFetchRequestTopics, OffsetFetchResponse,
        },
    },
};

use parking_lot::Mutex;

use super::{Shared, fetch, now};
use crate::{
    CommittedOffset, Error, Str, TopicPartition,
    group::membership::{Identity, PAUSE_MIN},
};

/// ListOffsets for the first offset of the log.
pub(crate) const EARLIEST: i64 = -2;
/// ListOffsets for the end of the log, or for the last stable offset.
pub(crate) const LATEST: i64 = -1;

/// What one leader says of its partitions: offset, timestamp and epoch, or an error.
pub(crate) type Listed = HashMap<TopicPartition, Result<ListOffsetsPartitionResponse, ErrorCode>>;

/// Asks one leader once: the offset for a timestamp, or one of the special values, by partition, with
/// the leader epoch that is believed in.
pub(crate) async fn list_once(
    shared: &Shared,
    node: i32,
    wanted: &[(TopicPartition, i32, i64)],
    deadline: Instant,
) -> Result<Listed, ottla_net::Error> {
    let mut topics: BTreeMap<&Str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (name, leader_epoch, timestamp) in wanted {
        topics
            .entry(&name.topic)
            .or_default()
            .push(ListOffsetsPartition {
                partition_index: name.partition,
                current_leader_epoch: *leader_epoch,
                timestamp: *timestamp,
                ..Default::default()
            });
    }
    let patience = deadline.saturating_duration_since(now());
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: fetch::isolation(shared.config.isolation_level),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic {
                name: name.clone(),
                partitions,
                ..Default::default()
            })
            .collect(),
        timeout_ms: i32::try_from(patience.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let connection = shared
        .cluster
        .connection(node, Lane::Control, deadline.into())
        .await?;
    let version = connection.version::<ListOffsetsRequest>(i16::MAX)?;
    let patience = deadline.min(now() + shared.config.request_timeout);
    let response = connection
        .submit(&request, version, patience.into())?
        .await?;
    let mut listed = HashMap::new();
    for topic in response.topics {
        for partition in topic.partitions {
            let name = TopicPartition::new(topic.name.clone(), partition.partition_index);
            let result = partition.error_code.ok().map(|()| partition);
            listed.insert(name, result);
        }
    }
    Ok(listed)
}

/// Asks the leaders of partitions until all have answered or the deadline passes. `wanted` gives a timestamp
/// or a special value for each.
pub(crate) async fn list(
    shared: &Arc<Shared>,
    wanted: Vec<(TopicPartition, i64)>,
    timeout: Duration,
) -> Result<HashMap<TopicPartition, ListOffsetsPartitionResponse>, Error> {
    let deadline = now() + timeout;
    let policy = shared.config.backoff();
    let mut found = HashMap::new();
    let mut left = wanted;
    let mut last: Option<String> = None;
    for failures in 1.. {
        let mut nodes: BTreeMap<i32, Vec<(TopicPartition, i32, i64)>> = BTreeMap::new();
        let mut leaderless = Vec::new();
        for (name, timestamp) in left {
            let topic = shared.cluster.topic(&name.topic, deadline.into()).await;
            let topic = topic.map_err(|error| match error.code() {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Error::UnknownTopic {
                    topic: name.topic.clone(),
                    waited: timeout,
                },
                _ => error.into(),
            })?;
            let Some(partition) = topic.partition(name.partition) else {
                return Err(ottla_net::Error::Topic {
                    topic: name.to_string(),
                    code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                }
                .into());
            };
            match partition.leader {
                Some(node) => {
                    let epoch = partition.leader_epoch;
                    nodes
                        .entry(node)
                        .or_default()
                        .push((name, epoch, timestamp));
                }
                None => {
                    last = Some(format!("{name} has no leader"));
                    leaderless.push((name, timestamp));
                }
            }
        }
        left = leaderless;
        let mut asking = tokio::task::JoinSet::new();
        for (node, wanted) in nodes {
            let shared = shared.clone();
            asking.spawn(async move {
                let listed = list_once(&shared, node, &wanted, deadline).await;
                (wanted, listed)
            });
        }
        while let Some(Ok((wanted, listed))) = asking.join_next().await {
            let mut listed = match listed {
                Ok(listed) => listed,
                Err(error) if error.is_retriable() => {
                    last = Some(error.to_string());
                    left.extend(
                        wanted
                            .into_iter()
                            .map(|(name, _, timestamp)| (name, timestamp)),
                    );
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for (name, _, timestamp) in wanted {
                match listed.remove(&name) {
                    // A time may have no offset, a log has its ends.
                    Some(Ok(answer)) if answer.offset < 0 && timestamp < 0 => {
                        last = Some(format!("no broker knows where {name} begins or ends"));
                        left.push((name, timestamp));
                    }
                    Some(Ok(answer)) => {
                        found.insert(name, answer);
                    }
                    Some(Err(code)) if !code.is_retriable() && !code.refreshes_metadata() => {
                        return Err(ottla_net::Error::Topic {
                            topic: name.to_string(),
                            code,
                        }
                        .into());
                    }
                    outcome => {
                        last = outcome
                            .and_then(Result::err)
                            .map(|code| code.to_string())
                            .or(last);
                        left.push((name, timestamp));
                    }
                }
            }
        }
        if left.is_empty() {
            break;
        }
        shared.cluster.refresh_soon();
        let next = now() + policy.random_delay(failures);
        if next >= deadline {
            return Err(Error::Timeout {
                what: "asking for offsets",
                waited: timeout,
                last: last.unwrap_or_else(|| "no answer".into()),
            });
        }
        tokio::time::sleep_until(next.into()).await;
    }
    Ok(found)
}

/// What becomes of partitions whose offsets cannot be told yet, while those of others can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stragglers {
    /// All wait for them: a transaction is about to commit their offsets.
    AreWaitedFor,
    /// The answer has their error, and the offsets of the others.
    AreReported,
}

/// The offsets a group has committed; `None` where it has none. Waits out a coordinator that moves or
/// loads.
pub(crate) async fn committed(
    shared: &Shared,
    group: &str,
    partitions: &[TopicPartition],
    stragglers: Stragglers,
    deadline: Instant,
) -> Result<HashMap<TopicPartition, Result<Option<CommittedOffset>, ErrorCode>>, ottla_net::Error> {
    let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for name in partitions {
        topics.entry(&name.topic).or_default().push(name.partition);
    }
    // A member by the consumer protocol says who asks, so that it hears of it if its epoch is over.
    let asked_as = Mutex::new(None);
    let request = |version: i16| {
        let identity = shared
            .member_by_consumer_protocol()
            .filter(|_| version >= 9);
        asked_as.lock().clone_from(&identity);
        let group_id: Str = group.to_owned().into();
        if version >= 8 {
            let topics = topics
                .iter()
                .map(|(name, partitions)| OffsetFetchRequestTopics {
                    name: (*name).clone(),
                    partition_indexes: partitions.clone(),
                    ..Default::default()
                });
            OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id,
                    member_epoch: identity.as_ref().map_or(-1, |member| member.generation),
                    member_id: identity.map(|member| member.member_id),
                    topics: Some(topics.collect()),
                    ..Default::default()
                }],
                require_stable: true,
                ..Default::default()
            }
        } else {
            let topics = topics
                .iter()
                .map(|(name, partitions)| OffsetFetchRequestTopic {
                    name: (*name).clone(),
                    partition_indexes: partitions.clone(),
                    ..Default::default()
                });
            OffsetFetchRequest {
                group_id,
                topics: Some(topics.collect()),
                require_stable: version >= 7,
                ..Default::default()
            }
        }
    };
    let whole_of = |response: &OffsetFetchResponse| {
        let group = response.groups.first();
        group.map_or(response.error_code, |group| group.error_code)
    };
    let policy = shared.config.backoff();
    let mut failures = 0;
    let response = loop {
        let response = shared
            .cluster
            .call_checked(
                To::Coordinator(CoordinatorKind::Group, group),
                Lane::Coordination,
                LAST_BY_NAME,
                &request,
                |response| {
                    let whole = whole_of(response);
                    if whole.is_err() || stragglers == Stragglers::AreReported {
                        return whole;
                    }
                    let new = response.groups.iter().flat_map(|g| &g.topics);
                    let new = new.flat_map(|t| &t.partitions).map(|p| p.error_code);
                    let old = response
                        .topics
                        .iter()
                        .flat_map(|t| &t.partitions)
                        .map(|p| p.error_code);
                    new.chain(old)
                        .find(|code| code.is_retriable())
                        .unwrap_or(ErrorCode::NONE)
                },
                deadline.into(),
            )
            .await?;
        let asked_as = asked_as.lock().take();
        let doubt = whole_of(&response);
        failures += 1;
        let next = now() + policy.random_delay(failures).max(PAUSE_MIN);
        match asked_as {
            // The next heartbeat tells of the new epoch, or that the member is none any more.
            Some(member) if shared.doubts_member(doubt, &member) && next < deadline => {
                tokio::time::sleep_until(next.into()).await;
            }
            _ => break response,
        }
    };
    let mut found = HashMap::new();
    let mut note =
        |topic: &Str, partition, offset, epoch: i32, metadata: Option<Str>, code: ErrorCode| {
            let committed = code.ok().map(|()| {
                (offset >= 0).then(|| CommittedOffset {
                    offset,
                    leader_epoch: (epoch >= 0).then_some(epoch),
                    metadata: metadata.unwrap_or_default(),
                })
            });
            found.insert(TopicPartition::new(topic.clone(), partition), committed);
        };
    let whole = whole_of(&response);
    if whole.is_err() {
        return Ok(partitions
            .iter()
            .map(|name| (name.clone(), Err(whole)))
            .collect());
    }
    for topic in response.topics {
        for p in topic.partitions {
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            note(
                &topic.name,
                p.partition_index,
                offset,
                epoch,
                p.metadata,
                p.error_code,
            );
        }
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        for p in topic.partitions {
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            note(
                &topic.name,
                p.partition_index,
                offset,
                epoch,
                p.metadata,
                p.error_code,
            );
        }
    }
    Ok(found)
}

impl Shared {
    /// Who it is in its group, if it is a member by the consumer protocol.
    fn member_by_consumer_protocol(&self) -> Option<Identity> {
        let mut group = self.group.as_ref()?.lock();
        let identity = group.membership.consumer()?.identity();
        (identity.generation > 0).then_some(identity)
    }

    /// Whether the error says that the epoch of a member is over; then the membership finds out.
    fn doubts_member(&self, error: ErrorCode, member: &Identity) -> bool {
        let doubts = is_about_the_member(error);
        if doubts && let Some(group) = &self.group {
            let membership = &mut group.lock().membership;
            membership.handle_commit_error(error, member, now());
            self.membership.notify_one();
        }
        doubts
    }
}

/// Whether an error is no answer about offsets: the coordinator knows the member no more, or by another epoch.
pub(super) fn is_about_the_member(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID
    )
}

/// Version 10 names topics by id only.
const LAST_BY_NAME: i16 = 9;
