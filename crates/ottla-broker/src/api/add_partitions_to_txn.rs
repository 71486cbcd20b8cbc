//! AddPartitionsToTxn: a producer of the first generation says where its transaction will write.

use ottla_wire::ErrorCode;
use ottla_wire::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};

use super::Serve;
use crate::context::Context;
use crate::transaction::{Identity, Next};

impl Serve for AddPartitionsToTxnRequest {
    async fn serve(self, context: &Context) -> Option<AddPartitionsToTxnResponse> {
        if context.version < BATCHED_FROM {
            let identity = (
                self.v3_and_below_producer_id,
                self.v3_and_below_producer_epoch,
            );
            let topics = &self.v3_and_below_topics;
            let id = &self.v3_and_below_transactional_id;
            return Some(AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: add(context, id, identity, topics, false),
                ..Default::default()
            });
        }
        let results = self.transactions.iter().map(|asked| {
            let identity = (asked.producer_id, asked.producer_epoch);
            let id = &asked.transactional_id;
            AddPartitionsToTxnResult {
                transactional_id: id.clone(),
                topic_results: add(context, id, identity, &asked.topics, asked.verify_only),
                ..Default::default()
            }
        });
        Some(AddPartitionsToTxnResponse {
            results_by_transaction: results.collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> AddPartitionsToTxnResponse {
        let results = self
            .transactions
            .iter()
            .map(|asked| AddPartitionsToTxnResult {
                transactional_id: asked.transactional_id.clone(),
                topic_results: answer(&asked.topics, |_, _| error),
                ..Default::default()
            });
        AddPartitionsToTxnResponse {
            error_code: error,
            results_by_transaction: results.collect(),
            results_by_topic_v3_and_below: answer(&self.v3_and_below_topics, |_, _| error),
            ..Default::default()
        }
    }
}

fn add(
    context: &Context,
    id: &str,
    identity: Identity,
    topics: &[AddPartitionsToTxnTopic],
    verify_only: bool,
) -> Vec<AddPartitionsToTxnTopicResult> {
    if let Err(error) = context.check_transaction_coordinator(id) {
        return answer(topics, |_, _| error);
    }
    let exists = |topic: &str, partition: i32| {
        let cluster = context.shared.cluster.read();
        cluster
            .topic(topic)
            .is_some_and(|topic| topic.partition(partition).is_some())
    };
    let all = || {
        topics.iter().flat_map(|topic| {
            let name = &*topic.name;
            topic
                .partitions
                .iter()
                .map(move |partition| (name, *partition))
        })
    };
    if !all().all(|(topic, partition)| exists(topic, partition)) {
        // All or none.
        return answer(topics, |topic, partition| match exists(topic, partition) {
            true => ErrorCode::OPERATION_NOT_ATTEMPTED,
            false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        });
    }
    let now_ms = context.shared.now_ms();
    let mut transactions = context.shared.transactions.lock();
    if verify_only {
        let found = transactions.get_mut(id).and_then(|transaction| {
            transaction.check(identity)?;
            Ok(transaction)
        });
        return match found {
            Err(error) => answer(topics, |_, _| error),
            Ok(transaction) => answer(topics, |topic, partition| {
                match transaction.writes_to(topic, partition) {
                    true => ErrorCode::NONE,
                    false => ErrorCode::TRANSACTION_ABORTABLE,
                }
            }),
        };
    }
    let changed = context
        .shared
        .change_transaction(&mut transactions, id, |transaction| {
            transaction.check(identity)?;
            transaction.begin(now_ms);
            let added = all().map(|(topic, partition)| (topic.to_owned(), partition));
            transaction.partitions.extend(added);
            Ok(Next::Nothing)
        });
    let error = changed.err().unwrap_or(ErrorCode::NONE);
    let error = context.fenced(error, FENCED_FROM);
    answer(topics, |_, _| error)
}

fn answer(
    topics: &[AddPartitionsToTxnTopic],
    each: impl Fn(&str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    topics
        .iter()
        .map(|topic| AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic
                .partitions
                .iter()
                .map(|partition| AddPartitionsToTxnPartitionResult {
                    partition_index: *partition,
                    partition_error_code: each(&topic.name, *partition),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
        .collect()
}

const BATCHED_FROM: i16 = 4;
const FENCED_FROM: i16 = 2;
