//! Between the core's requests and Kafka's Produce messages.

use std::sync::Arc;
use std::time::Duration;

use ottla_net::LeaderHint;
use ottla_wire::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use ottla_wire::{Bytes, ErrorCode, Uuid};

use super::core::{Answer, Slot};
use crate::config::Acks;
use crate::topics::Partition;

/// The first Produce version that names topics by id alone.
const BY_TOPIC_ID: i16 = 13;

/// A Produce request that is being sent, as far as its answer must be understood.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) slots: Vec<Slot>,
    partitions: Vec<Arc<Partition>>,
    /// As sent; zero where the request names topics.
    ids: Vec<Uuid>,
}

/// Builds the request: partitions of one topic together. `version_of` gives the version for a highest
/// one allowed; ids are used only if every topic has one.
pub(super) fn produce_request<E>(
    parts: Vec<(Arc<Partition>, Bytes)>,
    acks: Acks,
    timeout: Duration,
    version_of: impl FnOnce(i16) -> Result<i16, E>,
) -> (Sent, ProduceRequest, Result<i16, E>) {
    let ids: Vec<Uuid> = parts
        .iter()
        .map(|(partition, _)| *partition.topic.id.lock())
        .collect();
    let cap = if ids.contains(&Uuid::ZERO) {
        BY_TOPIC_ID - 1
    } else {
        i16::MAX
    };
    let version = version_of(cap);
    let mut topic_data: Vec<TopicProduceData> = Vec::new();
    let mut sent = Sent {
        slots: parts.iter().map(|(partition, _)| partition.slot).collect(),
        partitions: Vec::with_capacity(parts.len()),
        ids,
    };
    for ((partition, records), id) in parts.into_iter().zip(&sent.ids) {
        let data = PartitionProduceData {
            index: partition.at.partition,
            records: Some(records),
            ..Default::default()
        };
        let name = &partition.topic.wire_name;
        // Requests mostly hold one topic, or few: a look at those before is cheaper than a map.
        match topic_data
            .iter_mut()
            .rev()
            .find(|topic| topic.name == *name)
        {
            Some(topic) => topic.partition_data.push(data),
            None => topic_data.push(TopicProduceData {
                name: name.clone(),
                topic_id: *id,
                partition_data: vec![data],
                ..Default::default()
            }),
        }
        sent.partitions.push(partition);
    }
    if !matches!(version, Ok(BY_TOPIC_ID..)) {
        sent.ids.fill(Uuid::ZERO);
    }
    let request = ProduceRequest {
        acks: acks.wire(),
        timeout_ms: timeout.as_millis().try_into().unwrap_or(i32::MAX),
        topic_data,
        ..Default::default()
    };
    (sent, request, version)
}

/// What a response says, partition by partition; those it leaves out, and those it makes up, are
/// answered as a failure of the broker.
pub(super) fn answers(sent: &Sent, response: &ProduceResponse) -> Vec<(Slot, Answer)> {
    let mut found: Vec<Option<Answer>> = vec![None; sent.slots.len()];
    let mut at = 0;
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            // Brokers mostly answer in the order of the request.
            let count = sent.partitions.len();
            let place = (at..count).chain(0..at).find(|place| {
                let asked = &sent.partitions[*place];
                let same_topic = match sent.ids[*place] {
                    Uuid::ZERO => asked.topic.wire_name == topic.name,
                    id => id == topic.topic_id,
                };
                same_topic && asked.at.partition == partition.index
            });
            if let Some(place) = place {
                found[place] = Some(answer(partition));
                at = place + 1;
            }
        }
    }
    let missing = || Answer {
        code: ErrorCode::UNKNOWN_SERVER_ERROR,
        message: Some("the response leaves this partition out".into()),
        base_offset: -1,
        append_time: -1,
        blamed: Vec::new(),
    };
    let answers = found
        .into_iter()
        .map(|answer| answer.unwrap_or_else(missing));
    sent.slots.iter().copied().zip(answers).collect()
}

/// New leaders that the response tells of (KIP-951).
pub(super) fn leader_hints<'a>(sent: &'a Sent, response: &ProduceResponse) -> Vec<LeaderHint<'a>> {
    let mut hints = Vec::new();
    for topic in &response.responses {
        for told in &topic.partition_responses {
            let leader = &told.current_leader;
            if told.error_code.is_ok() || leader.leader_id < 0 {
                continue;
            }
            let asked = sent.partitions.iter().zip(&sent.ids).find(|(asked, id)| {
                asked.at.partition == told.index
                    && (asked.topic.wire_name == topic.name
                        || (**id != Uuid::ZERO && **id == topic.topic_id))
            });
            if let Some((asked, _)) = asked {
                hints.push(LeaderHint {
                    topic: &asked.topic.name,
                    partition: told.index,
                    leader: leader.leader_id,
                    leader_epoch: leader.leader_epoch,
                });
            }
        }
    }
    hints
}

fn answer(told: &PartitionProduceResponse) -> Answer {
    let blamed = told.record_errors.iter().map(|record| {
        let problem = record.batch_index_error_message.as_deref();
        let problem = problem
            .or(told.error_message.as_deref())
            .unwrap_or("refused by the broker");
        (
            u32::try_from(record.batch_index).unwrap_or(u32::MAX),
            problem.into(),
        )
    });
    Answer {
        code: told.error_code,
        message: told.error_message.as_deref().map(Into::into),
        base_offset: told.base_offset,
        append_time: told.log_append_time_ms,
        blamed: blamed.collect(),
    }
}
