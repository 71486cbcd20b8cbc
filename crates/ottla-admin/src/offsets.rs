//! Offsets of partitions: the first, the last, the first of a time.

use std::collections::HashMap;

use ottla_net::To;
use ottla_wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_wire::{ErrorCode, Request};

use crate::items::{Answer, Results};
use crate::{Admin, Error};

/// Which offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first record there still is.
    Earliest,
    /// Behind the last record that all in-sync replicas have.
    Latest,
    /// The record with the largest timestamp (Kafka 3.0 and later).
    MaxTimestamp,
    /// The first record of this time or later, in milliseconds since 1970.
    Timestamp(i64),
}

impl OffsetSpec {
    fn to_wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(ms) => ms.max(0),
        }
    }
}

/// An offset that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; `None` when no record is as young as asked.
    pub offset: Option<i64>,
    /// The record's timestamp, where it was asked for by time.
    pub timestamp: Option<i64>,
    /// The epoch of the leader that wrote it, where the broker tells.
    pub leader_epoch: Option<i32>,
}

/// One question: of which partition, which offset.
struct Question<'a> {
    topic: &'a str,
    partition: i32,
    spec: OffsetSpec,
}

impl Admin {
    /// Offsets of partitions (ListOffsets), each asked of the partition's leader. The results are
    /// named `topic[partition]`.
    pub async fn list_offsets(&self, asked: &[(&str, i32, OffsetSpec)]) -> Results<ListedOffset> {
        let deadline = self.deadline();
        let questions: HashMap<String, Question<'_>> = asked
            .iter()
            .map(|&(topic, partition, spec)| {
                (
                    format!("{topic}[{partition}]"),
                    Question {
                        topic,
                        partition,
                        spec,
                    },
                )
            })
            .collect();
        let questions = &questions;
        let names = asked
            .iter()
            .map(|(topic, partition, _)| format!("{topic}[{partition}]"));
        self.each("partition", names, deadline, |open| async move {
            let mut answers = Vec::new();
            let mut by_leader: HashMap<i32, HashMap<&str, Vec<&Question<'_>>>> = HashMap::new();
            for name in &open {
                let question = &questions[name];
                match self.leader(question, deadline).await {
                    Ok(leader) => by_leader
                        .entry(leader)
                        .or_default()
                        .entry(question.topic)
                        .or_default()
                        .push(question),
                    Err(answer) => answers.push(Answer {
                        name: name.clone(),
                        ..answer?
                    }),
                }
            }
            for (leader, topics) in by_leader {
                let request = offsets_request(&topics, self.timeout_ms(deadline));
                let response = match self
                    .call(To::Node(leader), deadline, |_| request.clone())
                    .await
                {
                    Ok(response) => response,
                    // Its partitions may have moved: asked again where they are now.
                    Err(error) if error.is_retriable() => {
                        answers.extend(topics.values().flatten().map(|q| Answer {
                            name: format!("{}[{}]", q.topic, q.partition),
                            ..Answer::new("", ErrorCode::LEADER_NOT_AVAILABLE, None::<&str>, || {
                                unreachable!("the code is an error")
                            })
                        }));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                for topic in response.topics {
                    for p in topic.partitions {
                        let name = format!("{}[{}]", topic.name, p.partition_index);
                        answers.push(Answer::new(name, p.error_code, None::<&str>, || {
                            ListedOffset {
                                offset: Some(p.offset).filter(|o| *o >= 0),
                                timestamp: Some(p.timestamp).filter(|t| *t >= 0),
                                leader_epoch: Some(p.leader_epoch).filter(|e| *e >= 0),
                            }
                        }));
                    }
                }
            }
            Ok(answers)
        })
        .await
    }

    /// The leader of a partition, or the answer that says why there is none.
    async fn leader<T>(
        &self,
        question: &Question<'_>,
        deadline: ottla_net::Instant,
    ) -> Result<i32, Result<Answer<T>, Error>> {
        let until = self.unknown_until(deadline);
        let topic = match self.cluster.topic(question.topic, until).await {
            Ok(topic) => topic,
            // Also a deadline that passed while the brokers said so.
            Err(error) => match error.code() {
                Some(code) => return Err(Ok(Answer::refused("", code))),
                // The cluster may still come up.
                None if until < deadline && error.is_timeout() => {
                    return Err(Ok(Answer::new(
                        "",
                        ErrorCode::LEADER_NOT_AVAILABLE,
                        None::<&str>,
                        || unreachable!("the code is an error"),
                    )));
                }
                None => return Err(Err(error.into())),
            },
        };
        match topic.partition(question.partition) {
            Some(partition) => partition.leader.ok_or_else(|| {
                Ok(Answer::new(
                    "",
                    ErrorCode::LEADER_NOT_AVAILABLE,
                    None::<&str>,
                    || unreachable!("the code is an error"),
                ))
            }),
            None => Err(Ok(Answer::refused(
                "",
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ))),
        }
    }
}

fn offsets_request(
    topics: &HashMap<&str, Vec<&Question<'_>>>,
    timeout_ms: i32,
) -> ListOffsetsRequest {
    debug_assert!(<ListOffsetsRequest as Request>::KEY == ottla_wire::ApiKey::ListOffsets);
    ListOffsetsRequest {
        // A consumer, not a replica.
        replica_id: -1,
        topics: topics
            .iter()
            .map(|(name, questions)| ListOffsetsTopic {
                name: (*name).to_owned().into(),
                partitions: questions
                    .iter()
                    .map(|q| ListOffsetsPartition {
                        partition_index: q.partition,
                        timestamp: q.spec.to_wire(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            })
            .collect(),
        timeout_ms,
        ..Default::default()
    }
}
