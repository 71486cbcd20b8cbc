//! TxnOffsetCommit: a group's positions are written down, and count once the transaction commits.

use ottla_wire::ErrorCode;
use ottla_wire::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};

use super::Serve;
use super::offset_commit::METADATA_LEN_MAX;
use crate::context::Context;
use crate::transaction::{Next, PendingOffset};

impl Serve for TxnOffsetCommitRequest {
    async fn serve(self, context: &Context) -> Option<TxnOffsetCommitResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let cluster = context.shared.cluster.read();
        let verdict = |topic: &str, partition: i32, metadata: Option<&str>| {
            let known = cluster
                .topic(topic)
                .is_some_and(|topic| topic.partition(partition).is_some());
            match metadata {
                _ if !known => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(metadata) if metadata.len() > METADATA_LEN_MAX => {
                    ErrorCode::OFFSET_METADATA_TOO_LARGE
                }
                _ => ErrorCode::NONE,
            }
        };
        let mut offsets = Vec::new();
        let response = self.answer(|topic, asked| {
            let metadata = asked.committed_metadata.as_deref();
            let verdict = verdict(topic, asked.partition_index, metadata);
            if verdict.is_ok() {
                offsets.push(PendingOffset {
                    group: self.group_id.to_string(),
                    topic: topic.to_owned(),
                    partition: asked.partition_index,
                    offset: asked.committed_offset,
                    leader_epoch: asked.committed_leader_epoch,
                    metadata: metadata.unwrap_or_default().to_owned(),
                });
            }
            verdict
        });
        drop(cluster);
        match self.keep(context, offsets) {
            Ok(()) => Some(response),
            Err(error) => Some(self.refuse(error)),
        }
    }

    fn refuse(&self, error: ErrorCode) -> TxnOffsetCommitResponse {
        self.answer(|_, _| error)
    }
}

type Asked = ottla_wire::messages::txn_offset_commit::TxnOffsetCommitRequestPartition;

trait Commit {
    fn answer(&self, each: impl FnMut(&str, &Asked) -> ErrorCode) -> TxnOffsetCommitResponse;

    fn keep(&self, context: &Context, offsets: Vec<PendingOffset>) -> Result<(), ErrorCode>;
}

impl Commit for TxnOffsetCommitRequest {
    fn answer(&self, mut each: impl FnMut(&str, &Asked) -> ErrorCode) -> TxnOffsetCommitResponse {
        let mut topics = Vec::new();
        for topic in &self.topics {
            let partitions = topic.partitions.iter();
            let partitions = partitions.map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: each(&topic.name, partition),
                ..Default::default()
            });
            topics.push(TxnOffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            });
        }
        TxnOffsetCommitResponse {
            topics,
            ..Default::default()
        }
    }

    fn keep(&self, context: &Context, offsets: Vec<PendingOffset>) -> Result<(), ErrorCode> {
        let (now, now_ms) = (context.shared.now(), context.shared.now_ms());
        let mut transactions = context.shared.transactions.lock();
        {
            let mut groups = context.shared.groups.lock();
            if groups.get(&self.group_id).is_none() && self.generation_id >= 0 {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
            groups.get_or_create(&self.group_id, now).check_commit(
                &self.member_id,
                self.group_instance_id.as_deref(),
                self.generation_id,
                true,
                now,
            )?;
        }
        let implicit = context.version >= IMPLICIT_FROM;
        let kept = context.shared.change_transaction(
            &mut transactions,
            &self.transactional_id,
            |transaction| {
                transaction.check((self.producer_id, self.producer_epoch))?;
                if implicit {
                    transaction.begin(now_ms);
                    transaction.groups.insert(self.group_id.to_string());
                } else if !transaction.groups.contains(&*self.group_id) {
                    return Err(ErrorCode::INVALID_TXN_STATE);
                }
                transaction.put_offsets(offsets);
                Ok(Next::Nothing)
            },
        );
        if kept.is_err() {
            context
                .shared
                .groups
                .lock()
                .remove_if_unused(&self.group_id);
        }
        match kept {
            Ok(_) => Ok(()),
            // What this API has always said.
            Err(ErrorCode::PRODUCER_FENCED) => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            Err(error) => Err(error),
        }
    }
}

/// KIP-890: the group need not be added first.
const IMPLICIT_FROM: i16 = 5;
