//! ShareFetch: acquires records for a member of a share group, and waits until there are some (KIP-932). Takes
//! acknowledgements along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::messages::share_fetch::{
    AcquiredRecords, LeaderIdAndEpoch, PartitionData, ShareFetchRequest, ShareFetchResponse,
    ShareFetchableTopicResponse,
};
use ottla_wire::{ErrorCode, Uuid};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Serve;
use super::leader_hints::note_endpoint;
use super::share_acknowledge::{CLOSE, Deeds, RENEW, acknowledge, key, leader_of, lock_ms};
use super::share_acquire::Acquirer;
use super::waiting::{BYTES_MAX, Found, WAIT_MAX, Waiting, find};
use crate::context::Context;
use crate::group::consumer::TopicPartition;
use crate::group::share::partition::{Acquired, Said};
use crate::share_session::Key;

impl Serve for ShareFetchRequest {
    async fn serve(self, context: &Context) -> Option<ShareFetchResponse> {
        let group = self.group_id.as_deref();
        let Some(key) = key(context, group, self.member_id.as_deref()) else {
            return Some(self.refuse(ErrorCode::INVALID_REQUEST));
        };
        let session = match self.begin(context, &key) {
            Ok(session) => session,
            Err(error) => return Some(self.refuse(error)),
        };
        let mut answers: BTreeMap<TopicPartition, PartitionData> = BTreeMap::new();
        let mut deeds = Deeds::default();
        for (id, said) in self.said() {
            let data = answers.entry(id).or_insert_with(|| empty(id.1));
            data.acknowledge_error_code = acknowledge(context, &key, id, &said, &mut deeds);
        }
        if let Err(error) = deeds.keep(context, &key).await {
            let done = |data: &&mut PartitionData| data.acknowledge_error_code.is_ok();
            for data in answers.values_mut().filter(done) {
                data.acknowledge_error_code = error;
            }
        }
        if self.share_session_epoch == CLOSE {
            context.shared.release_shares(&key);
            return Some(self.respond(context, &key, answers));
        }
        let wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let waiter = Arc::new(Notify::new());
        let found: Vec<(TopicPartition, Found)> = session
            .iter()
            .map(|id| (*id, find(context, "", id.0, id.1)))
            .collect();
        let mut acquirer = Acquirer {
            context,
            key: &key,
            strict: self.share_acquire_mode == RECORD_LIMIT,
            has_begun: false,
        };
        loop {
            // Registered before looking: what is appended, or freed, meanwhile wakes us.
            let waiting = Waiting::begin(found.iter().map(|(_, found)| found), &waiter);
            let freed = context.shared.share_freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let has_news = self.acquire(&mut acquirer, &found, &mut answers);
            if std::mem::take(&mut acquirer.has_begun)
                && let Err(error) = context.shared.group_kept(&key.group).await
            {
                // Kept with the first acknowledgement, then.
                tracing::error!(group = key.group, %error, "cannot write where a group begins");
            }
            if has_news || Instant::now() >= deadline {
                drop(waiting);
                return Some(self.respond(context, &key, answers));
            }
            tokio::select! {
                () = waiter.notified() => {}
                () = freed => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    fn refuse(&self, error: ErrorCode) -> ShareFetchResponse {
        ShareFetchResponse {
            error_code: error,
            error_message: None,
            ..Default::default()
        }
    }
}

/// What a request is for, step by step.
trait Steps {
    fn begin(&self, context: &Context, key: &Key) -> Result<BTreeSet<TopicPartition>, ErrorCode>;
    fn said(&self) -> Vec<(TopicPartition, Vec<Said>)>;
    fn acquire(
        &self,
        acquirer: &mut Acquirer<'_>,
        found: &[(TopicPartition, Found)],
        answers: &mut BTreeMap<TopicPartition, PartitionData>,
    ) -> bool;
    fn respond(
        &self,
        context: &Context,
        key: &Key,
        answers: BTreeMap<TopicPartition, PartitionData>,
    ) -> ShareFetchResponse;
}

impl Steps for ShareFetchRequest {
    /// Opens, goes on with or ends the session. The partitions to fetch.
    fn begin(&self, context: &Context, key: &Key) -> Result<BTreeSet<TopicPartition>, ErrorCode> {
        let named = self.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.topic_id, partition.partition_index))
        });
        let is_known = {
            let groups = context.shared.groups.lock();
            groups
                .get(&key.group)
                .is_some_and(|group| group.share.is_some())
        };
        if !is_known {
            // Its members learn with their next heartbeat that it was forgotten.
            return Err(ErrorCode::SHARE_SESSION_NOT_FOUND);
        }
        let mut sessions = context.shared.share_sessions.lock();
        match self.share_session_epoch {
            0 if self.said().is_empty() => {
                let partitions: BTreeSet<_> = named.collect();
                sessions.open(key.clone(), context.connection, partitions.clone())?;
                Ok(partitions)
            }
            0 => Err(ErrorCode::INVALID_REQUEST),
            CLOSE => sessions.close(key).map(|()| BTreeSet::new()),
            epoch => {
                let forgotten = self.forgotten_topics_data.iter().flat_map(|topic| {
                    let partitions = topic.partitions.iter();
                    partitions.map(|index| (topic.topic_id, *index))
                });
                sessions.go_on(key, epoch, named, forgotten)
            }
        }
    }

    fn said(&self) -> Vec<(TopicPartition, Vec<Said>)> {
        let mut all = Vec::new();
        for topic in &self.topics {
            for partition in &topic.partitions {
                let batches = partition.acknowledgement_batches.iter();
                let said: Vec<Said> = batches
                    .map(|batch| Said {
                        first: batch.first_offset,
                        last: batch.last_offset,
                        types: batch.acknowledge_types.clone(),
                    })
                    .collect();
                if !said.is_empty() {
                    all.push(((topic.topic_id, partition.partition_index), said));
                }
            }
        }
        all
    }

    /// Acquires what there is. Whether there is something to tell.
    fn acquire(
        &self,
        acquirer: &mut Acquirer<'_>,
        found: &[(TopicPartition, Found)],
        answers: &mut BTreeMap<TopicPartition, PartitionData>,
    ) -> bool {
        let mut room = usize::try_from(self.max_bytes).unwrap_or(0).min(BYTES_MAX);
        let mut records_left = usize::try_from(self.max_records).unwrap_or(0);
        let mut has_news = false;
        // With renewals no records may be asked for: the answer is due at once.
        if self.is_renew_ack
            || self
                .said()
                .iter()
                .flat_map(|(_, said)| said)
                .any(|s| s.types.contains(&RENEW))
        {
            return true;
        }
        // Not the same one first each time.
        let turn = fastrand::usize(..found.len().max(1));
        for (id, partition) in found[turn..].iter().chain(&found[..turn]) {
            if records_left == 0 {
                break;
            }
            let acquired = match partition {
                Ok(partition) => acquirer.acquire(*id, partition, room, records_left),
                Err(error) => Err(*error),
            };
            match acquired {
                Ok((records, acquired)) if acquired.is_empty() => drop(records),
                Ok((records, acquired)) => {
                    has_news = true;
                    room = room.saturating_sub(records.len());
                    let count: i64 = acquired.iter().map(|run| run.last - run.first + 1).sum();
                    records_left = records_left.saturating_sub(usize::try_from(count).unwrap_or(0));
                    let data = answers.entry(*id).or_insert_with(|| empty(id.1));
                    data.records = records;
                    data.acquired_records = acquired.into_iter().map(on_wire).collect();
                }
                Err(error) => {
                    has_news = true;
                    let data = answers.entry(*id).or_insert_with(|| empty(id.1));
                    data.error_code = error;
                }
            }
        }
        has_news
    }

    fn respond(
        &self,
        context: &Context,
        key: &Key,
        answers: BTreeMap<TopicPartition, PartitionData>,
    ) -> ShareFetchResponse {
        let mut response = ShareFetchResponse {
            error_message: None,
            acquisition_lock_timeout_ms: lock_ms(context, &key.group),
            ..Default::default()
        };
        let mut topics: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
        for (id, mut data) in answers {
            let error = match data.error_code {
                ErrorCode::NONE => data.acknowledge_error_code,
                error => error,
            };
            if let Some((leader_id, leader_epoch)) = leader_of(context, error, id) {
                data.current_leader = LeaderIdAndEpoch {
                    leader_id,
                    leader_epoch,
                    ..Default::default()
                };
                note_endpoint(context, leader_id, &mut response.node_endpoints);
            }
            topics.entry(id.0).or_default().push(data);
        }
        let topics = topics.into_iter();
        response.responses = topics
            .map(|(topic_id, partitions)| ShareFetchableTopicResponse {
                topic_id,
                partitions,
                ..Default::default()
            })
            .collect();
        response
    }
}

fn on_wire(acquired: Acquired) -> AcquiredRecords {
    AcquiredRecords {
        first_offset: acquired.first,
        last_offset: acquired.last,
        delivery_count: acquired.deliveries,
        ..Default::default()
    }
}

fn empty(partition_index: i32) -> PartitionData {
    PartitionData {
        partition_index,
        error_message: None,
        acknowledge_error_message: None,
        ..Default::default()
    }
}

/// `share.acquire.mode=record_limit` (KIP-1206).
const RECORD_LIMIT: i8 = 1;

#[cfg(test)]
mod tests {
    use ottla_wire::messages::share_fetch::{FetchPartition, FetchTopic};
    use ottla_wire::messages::share_group_heartbeat::{
        ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    };

    use super::super::metadata::resolve;
    use super::*;
    use crate::{BrokerOptions, EmbeddedCluster};

    fn start() -> (EmbeddedCluster, Context, Uuid) {
        let options = BrokerOptions {
            topics: vec![("t".into(), 1)],
            ..Default::default()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
        let context = Context {
            shared: Arc::clone(cluster.shared()),
            node: 1,
            client_id: String::new(),
            client_host: String::new(),
            version: 2,
            connection: 7,
        };
        let topic = resolve(&context, "t", Uuid::ZERO).unwrap().id;
        (cluster, context, topic)
    }

    async fn beat(context: &Context, epoch: i32) -> ShareGroupHeartbeatResponse {
        let request = ShareGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: "m".into(),
            member_epoch: epoch,
            subscribed_topic_names: (epoch == 0).then(|| vec!["t".into()]),
            rack_id: None,
            ..Default::default()
        };
        request.serve(context).await.unwrap()
    }

    fn request(member: &str, epoch: i32, topic: Uuid) -> ShareFetchRequest {
        ShareFetchRequest {
            group_id: Some("g".into()),
            member_id: Some(member.to_owned().into()),
            share_session_epoch: epoch,
            max_wait_ms: 60_000,
            max_records: 10,
            topics: vec![FetchTopic {
                topic_id: topic,
                partitions: vec![FetchPartition::default()],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn members_of_a_group_that_was_forgotten_join_again() {
        let (_cluster, context, topic) = start();
        assert_eq!(
            beat(&context, 5).await.error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        let fetched = request("m", 0, topic).serve(&context).await.unwrap();
        assert_eq!(fetched.error_code, ErrorCode::SHARE_SESSION_NOT_FOUND);
        assert_eq!(beat(&context, 0).await.error_code, ErrorCode::NONE);
        let long = request(&"m".repeat(37), 0, topic)
            .serve(&context)
            .await
            .unwrap();
        assert_eq!(long.error_code, ErrorCode::INVALID_REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_waits_as_long_as_it_may_and_leaves_nothing_behind_when_it_is_given_up() {
        let (_cluster, context, topic) = start();
        assert_eq!(beat(&context, 0).await.error_code, ErrorCode::NONE);
        let begun = Instant::now();
        let fetched = request("m", 0, topic).serve(&context).await.unwrap();
        assert_eq!(
            (fetched.error_code, begun.elapsed().as_secs()),
            (ErrorCode::NONE, 60)
        );
        assert!(fetched.responses.is_empty());
        let waits = request("m", 1, topic);
        let given_up = tokio::time::timeout(Duration::from_secs(1), waits.serve(&context)).await;
        assert!(given_up.is_err(), "{given_up:?}");
        let found = resolve(&context, "t", Uuid::ZERO).unwrap();
        assert_eq!(found.partition(0).unwrap().state.lock().waiting(), 0);
        // Its connection is gone, and with it the session.
        context.shared.disconnected(7);
        let fetched = request("m", 2, topic).serve(&context).await.unwrap();
        assert_eq!(fetched.error_code, ErrorCode::SHARE_SESSION_NOT_FOUND);
    }
}
