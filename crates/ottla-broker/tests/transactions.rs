//! Transactions as producers of both generations and their readers see them.

#![allow(clippy::unwrap_used, reason = "a test fails where its tools do")]

mod in_memory;
mod support;

use std::time::Duration;

use bytes::Bytes;
use in_memory::{Client, cluster, records, sealed};
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use ottla_wire::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use ottla_wire::messages::api_versions::ApiVersionsRequest;
use ottla_wire::messages::describe_transactions::DescribeTransactionsRequest;
use ottla_wire::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use ottla_wire::messages::fetch::PartitionData;
use ottla_wire::messages::init_producer_id::InitProducerIdRequest;
use ottla_wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_wire::messages::list_transactions::ListTransactionsRequest;
use ottla_wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_wire::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use ottla_wire::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_wire::{ErrorCode, Uuid};
use support::{fetch_request, produce_request};

/// A transactional producer that does what it is told.
struct Producer {
    client: Client,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn start(cluster: &EmbeddedCluster) -> Self {
        let mut client = Client::new(cluster, 1);
        let request = InitProducerIdRequest {
            transactional_id: Some("tx".into()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = client.ask(&request, 5).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        Self {
            client,
            id: answer.producer_id,
            epoch: answer.producer_epoch,
            sequence: 0,
        }
    }

    fn batch(&mut self, value: &str) -> Bytes {
        let mut batch = sealed(&[(Some("k"), Some(value))], 1000);
        batch.stamp(self.id, self.epoch, self.sequence, true);
        batch.freeze()
    }

    /// Sends one record; the version says of which generation the producer is.
    async fn send(&mut self, topic: &str, value: &str, version: i16) -> ErrorCode {
        let mut request = produce_request(topic, 0, self.batch(value));
        request.transactional_id = Some("tx".into());
        let response = self.client.ask(&request, version).await;
        let error = response.responses[0].partition_responses[0].error_code;
        if error.is_ok() {
            self.sequence += 1;
        }
        error
    }

    async fn add(&mut self, topic: &str) -> ErrorCode {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "tx".into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: topic.into(),
                partitions: vec![0],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.client.ask(&request, 3).await;
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    async fn end(&mut self, committed: bool, version: i16) -> EndTxnResponse {
        let request = EndTxnRequest {
            transactional_id: "tx".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
            ..Default::default()
        };
        let answer = self.client.ask(&request, version).await;
        if answer.error_code.is_ok() && version >= 5 {
            (self.id, self.epoch, self.sequence) = (answer.producer_id, answer.producer_epoch, 0);
        }
        answer
    }

    async fn commit_offset(&mut self, offset: i64, version: i16) -> ErrorCode {
        let request = TxnOffsetCommitRequest {
            transactional_id: "tx".into(),
            group_id: "g".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.client.ask(&request, version).await;
        answer.topics[0].partitions[0].error_code
    }
}

async fn read(cluster: &EmbeddedCluster, committed: bool) -> PartitionData {
    let mut request = fetch_request("t", 0, 0, 0);
    request.isolation_level = i8::from(committed);
    let mut response = Client::new(cluster, 1).ask(&request, 12).await;
    response.responses.remove(0).partitions.remove(0)
}

async fn latest(cluster: &EmbeddedCluster, isolation_level: i8) -> i64 {
    let request = ListOffsetsRequest {
        isolation_level,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = Client::new(cluster, 1).ask(&request, 7).await;
    answer.topics[0].partitions[0].offset
}

async fn committed(cluster: &EmbeddedCluster, require_stable: bool) -> Result<i64, ErrorCode> {
    let request = OffsetFetchRequest {
        require_stable,
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                topic_id: Uuid::ZERO,
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = Client::new(cluster, 1).ask(&request, 8).await;
    let found = &answer.groups[0].topics[0].partitions[0];
    found.error_code.ok().map(|()| found.committed_offset)
}

fn values(data: &PartitionData) -> Vec<String> {
    records(data).into_iter().map(|record| record.1).collect()
}

fn with_topic() -> EmbeddedCluster {
    let cluster = cluster(1);
    cluster.create_topic("t", 1).unwrap();
    cluster
}

#[tokio::test]
async fn the_first_generation_adds_partitions_and_keeps_its_epoch() {
    let cluster = with_topic();
    let mut producer = Producer::start(&cluster).await;
    assert_eq!(
        producer.send("t", "a", 9).await,
        ErrorCode::INVALID_TXN_STATE
    );
    assert_eq!(
        producer.send("t", "a", 11).await,
        ErrorCode::TRANSACTION_ABORTABLE
    );
    assert_eq!(
        producer.add("none").await,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(producer.add("t").await, ErrorCode::NONE);
    assert_eq!(producer.send("t", "a", 9).await, ErrorCode::NONE);
    let open = read(&cluster, true).await;
    assert_eq!((open.last_stable_offset, open.high_watermark), (0, 1));
    assert!(values(&open).is_empty());
    assert_eq!(
        (latest(&cluster, 1).await, latest(&cluster, 0).await),
        (0, 1)
    );
    assert_eq!(values(&read(&cluster, false).await), ["a"]);
    assert_eq!(producer.end(true, 3).await.error_code, ErrorCode::NONE);
    assert_eq!(values(&read(&cluster, true).await), ["a", "Commit"]);
    assert_eq!(latest(&cluster, 1).await, 2);
    producer.add("t").await;
    assert_eq!(producer.send("t", "b", 9).await, ErrorCode::NONE);
    assert_eq!(producer.end(false, 3).await.error_code, ErrorCode::NONE);
    assert_eq!(
        producer.end(false, 3).await.error_code,
        ErrorCode::NONE,
        "again"
    );
    let all = read(&cluster, true).await;
    assert_eq!(values(&all), ["a", "Commit", "b", "Abort"]);
    let aborted = all.aborted_transactions.unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!(
        (aborted[0].producer_id, aborted[0].first_offset),
        (producer.id, 2)
    );
    assert_eq!(read(&cluster, false).await.aborted_transactions, None);
    assert_eq!(
        cluster.records("t", 0).unwrap().len(),
        2,
        "markers are no records"
    );
}

#[tokio::test]
async fn the_second_generation_bumps_its_epoch_with_every_transaction() {
    let cluster = with_topic();
    let mut producer = Producer::start(&cluster).await;
    for (round, commit) in [true, false, true].into_iter().enumerate() {
        let value = round.to_string();
        assert_eq!(producer.send("t", &value, 12).await, ErrorCode::NONE);
        let (old_id, old_epoch) = (producer.id, producer.epoch);
        let end = producer.end(commit, 5).await;
        assert_eq!(
            (end.error_code, end.producer_id, end.producer_epoch),
            (ErrorCode::NONE, old_id, old_epoch + 1)
        );
        // The same once more, as after a lost answer.
        producer.epoch = old_epoch;
        let again = producer.end(commit, 5).await;
        assert_eq!(
            (again.error_code, again.producer_epoch),
            (ErrorCode::NONE, old_epoch + 1)
        );
        // What comes late of the old epoch belongs nowhere.
        let mut late = producer.batch("late").to_vec();
        late[51..53].copy_from_slice(&old_epoch.to_be_bytes());
        let crc = crc32c::crc32c(&late[21..]);
        late[17..21].copy_from_slice(&crc.to_be_bytes());
        let mut request = produce_request("t", 0, late.into());
        request.transactional_id = Some("tx".into());
        let refused = producer.client.ask(&request, 12).await;
        let error = refused.responses[0].partition_responses[0].error_code;
        assert_eq!(error, ErrorCode::INVALID_PRODUCER_EPOCH);
    }
    let all = read(&cluster, true).await;
    assert_eq!(values(&all), ["0", "Commit", "1", "Abort", "2", "Commit"]);
    assert_eq!(all.aborted_transactions.unwrap().len(), 1);
    // An abort of nothing is fine, a commit of nothing is not.
    assert_eq!(producer.end(false, 5).await.error_code, ErrorCode::NONE);
    assert_eq!(
        producer.end(true, 5).await.error_code,
        ErrorCode::INVALID_TXN_STATE
    );
}

#[tokio::test]
async fn a_second_instance_aborts_the_first_and_fences_it() {
    let cluster = with_topic();
    let mut first = Producer::start(&cluster).await;
    first.send("t", "first", 12).await;
    let mut second = Producer::start(&cluster).await;
    assert_eq!(second.id, first.id);
    assert!(second.epoch > first.epoch);
    assert_eq!(
        first.send("t", "zombie", 12).await,
        ErrorCode::INVALID_PRODUCER_EPOCH
    );
    assert_eq!(
        first.end(true, 5).await.error_code,
        ErrorCode::PRODUCER_FENCED
    );
    assert_eq!(
        first.end(true, 1).await.error_code,
        ErrorCode::INVALID_PRODUCER_EPOCH
    );
    assert_eq!(second.send("t", "second", 12).await, ErrorCode::NONE);
    second.end(true, 5).await;
    let all = read(&cluster, true).await;
    assert_eq!(values(&all), ["first", "Abort", "second", "Commit"]);
}

#[tokio::test]
async fn offsets_take_effect_with_their_transaction() {
    let cluster = with_topic();
    let mut producer = Producer::start(&cluster).await;
    assert_eq!(
        producer.commit_offset(5, 3).await,
        ErrorCode::INVALID_TXN_STATE,
        "not added"
    );
    let add = AddOffsetsToTxnRequest {
        transactional_id: "tx".into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        group_id: "g".into(),
        ..Default::default()
    };
    assert_eq!(
        producer.client.ask(&add, 3).await.error_code,
        ErrorCode::NONE
    );
    assert_eq!(producer.commit_offset(5, 3).await, ErrorCode::NONE);
    assert_eq!(committed(&cluster, false).await, Ok(-1));
    assert_eq!(
        committed(&cluster, true).await,
        Err(ErrorCode::UNSTABLE_OFFSET_COMMIT)
    );
    producer.end(true, 3).await;
    assert_eq!(committed(&cluster, true).await, Ok(5));
    assert_eq!(
        producer.commit_offset(9, 5).await,
        ErrorCode::NONE,
        "added by itself"
    );
    producer.end(false, 5).await;
    assert_eq!(committed(&cluster, true).await, Ok(5), "aborted");
    producer.epoch -= 1;
    assert_eq!(
        producer.commit_offset(9, 5).await,
        ErrorCode::INVALID_PRODUCER_EPOCH
    );
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let cluster = with_topic();
    let mut producer = Producer::start(&cluster).await;
    producer.send("t", "slow", 12).await;
    let describe = DescribeTransactionsRequest {
        transactional_ids: vec!["tx".into(), "other".into()],
        ..Default::default()
    };
    let shown = producer.client.ask(&describe, 0).await.transaction_states;
    assert_eq!(&*shown[0].transaction_state, "Ongoing");
    assert_eq!(
        (&*shown[0].topics[0].topic, shown[0].transaction_timeout_ms),
        ("t", 60_000)
    );
    assert_eq!(shown[1].error_code, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    tokio::time::sleep(Duration::from_secs(71)).await;
    let all = read(&cluster, true).await;
    assert_eq!(values(&all), ["slow", "Abort"]);
    assert_eq!(
        producer.end(true, 5).await.error_code,
        ErrorCode::PRODUCER_FENCED
    );
    for (filter, expected) in [("CompleteAbort", 1), ("Ongoing", 0)] {
        let list = ListTransactionsRequest {
            state_filters: vec![filter.into()],
            ..Default::default()
        };
        let listed = producer.client.ask(&list, 1).await;
        assert_eq!(listed.transaction_states.len(), expected, "{filter}");
    }
}

#[tokio::test]
async fn transactions_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        data_dir: Some(dir.path().to_owned()),
        topics: vec![("t".to_owned(), 1)],
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options.clone()).unwrap();
    let mut producer = Producer::start(&cluster).await;
    producer.send("t", "a", 12).await;
    producer.end(false, 5).await;
    producer.send("t", "b", 12).await;
    producer.commit_offset(3, 5).await;
    let Producer {
        id,
        epoch,
        sequence,
        client,
    } = producer;
    drop(client);
    cluster.stop().await;
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    let open = read(&cluster, true).await;
    assert_eq!(
        (values(&open), open.last_stable_offset),
        (vec!["a".to_owned(), "Abort".to_owned()], 2)
    );
    assert_eq!(open.aborted_transactions.unwrap().len(), 1);
    assert_eq!(
        committed(&cluster, true).await,
        Err(ErrorCode::UNSTABLE_OFFSET_COMMIT)
    );
    let client = Client::new(&cluster, 1);
    let mut producer = Producer {
        client,
        id,
        epoch,
        sequence,
    };
    assert_eq!(producer.send("t", "c", 12).await, ErrorCode::NONE);
    assert_eq!(producer.end(true, 5).await.error_code, ErrorCode::NONE);
    assert_eq!(
        values(&read(&cluster, true).await),
        ["a", "Abort", "b", "c", "Commit"]
    );
    assert_eq!(committed(&cluster, true).await, Ok(3));
}

#[tokio::test]
async fn compaction_removes_what_was_aborted_and_leaves_what_is_open() {
    let cluster = cluster(1);
    let config = [("cleanup.policy", "compact")];
    cluster.create_topic_with("t", 1, &config).unwrap();
    let mut producer = Producer::start(&cluster).await;
    producer.send("t", "kept", 12).await;
    producer.end(true, 5).await;
    producer.send("t", "aborted", 12).await;
    producer.end(false, 5).await;
    cluster.compact("t", 0).unwrap();
    producer.send("t", "open", 12).await;
    cluster.compact("t", 0).unwrap();
    let values: Vec<Vec<u8>> = cluster
        .records("t", 0)
        .unwrap()
        .into_iter()
        .filter_map(|record| record.1)
        .collect();
    assert_eq!(values, [b"kept".to_vec(), b"open".to_vec()]);
}

#[tokio::test]
async fn the_generation_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        data_dir: Some(dir.path().to_owned()),
        ..Default::default()
    };
    let level = async |cluster: &EmbeddedCluster| {
        let mut client = Client::new(cluster, 1);
        let answer = client.ask(&ApiVersionsRequest::default(), 3).await;
        answer
            .finalized_features
            .iter()
            .find(|feature| *feature.name == *"transaction.version")
            .map(|feature| feature.max_version_level)
    };
    let cluster = EmbeddedCluster::start_in_memory(options.clone()).unwrap();
    assert!(cluster.set_transaction_version(3).is_err());
    cluster.set_transaction_version(1).unwrap();
    assert_eq!(level(&cluster).await, Some(1));
    cluster.stop().await;
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    assert_eq!(level(&cluster).await, Some(1));
}

#[tokio::test]
async fn the_generation_is_a_feature_that_can_be_switched() {
    let cluster = with_topic();
    let mut client = Client::new(&cluster, 1);
    let level = async |client: &mut Client| {
        let answer = client.ask(&ApiVersionsRequest::default(), 3).await;
        let mut supported = answer.supported_features.iter();
        let known = supported.find(|feature| *feature.name == *"transaction.version");
        assert_eq!(known.unwrap().max_version, 2);
        answer
            .finalized_features
            .iter()
            .find(|feature| *feature.name == *"transaction.version")
            .map(|f| (f.name.to_string(), f.max_version_level))
    };
    let named = |level| Some(("transaction.version".to_owned(), level));
    assert_eq!(level(&mut client).await, named(2));
    let update = |wanted, upgrade_type| UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: "transaction.version".into(),
            max_version_level: wanted,
            upgrade_type,
            ..Default::default()
        }],
        ..Default::default()
    };
    for (wanted, upgrade_type) in [(1, 1), (3, 1), (-1, 3)] {
        let refused = client.ask(&update(wanted, upgrade_type), 2).await;
        assert_eq!(refused.error_code, ErrorCode::INVALID_UPDATE_VERSION);
    }
    assert!(client.ask(&update(1, 2), 2).await.error_code.is_ok());
    assert_eq!(level(&mut client).await, named(1));
    assert!(client.ask(&update(2, 1), 2).await.error_code.is_ok());
    assert_eq!(level(&mut client).await, named(2));
}
