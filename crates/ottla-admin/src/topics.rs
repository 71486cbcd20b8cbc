//! Topics: create, delete, list, describe, add partitions.

use std::collections::BTreeMap;

use ottla_net::To;
use ottla_wire::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use ottla_wire::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ottla_wire::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use crate::items::{Answer, Results};
use crate::{Admin, Error};

/// A topic to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// 1 to 249 letters, digits, dots, underscores and hyphens.
    pub name: String,
    /// How many partitions; `None` takes the broker's `num.partitions` (Kafka 2.4 and later).
    pub partitions: Option<i32>,
    /// How many replicas each; `None` takes the broker's `default.replication.factor` (2.4 and later).
    pub replication_factor: Option<i16>,
    /// Which brokers hold each partition, by index, the preferred leader first. Instead of
    /// [`NewTopic::partitions`] and [`NewTopic::replication_factor`]. Empty: the controller decides.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    /// Settings that differ from the broker's defaults, such as `retention.ms`.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>) -> NewTopic {
        NewTopic {
            name: name.into(),
            ..NewTopic::default()
        }
    }

    /// With so many partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> NewTopic {
        self.partitions = Some(partitions);
        self
    }

    /// With so many replicas of each partition.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> NewTopic {
        self.replication_factor = Some(replicas);
        self
    }

    /// With one setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.configs.insert(name.into(), value.into());
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let chosen = !self.assignments.is_empty();
        CreatableTopic {
            name: self.name.clone().into(),
            // -1 asks for the broker's default, or goes with explicit assignments.
            num_partitions: self.partitions.filter(|_| !chosen).unwrap_or(-1),
            replication_factor: self.replication_factor.filter(|_| !chosen).unwrap_or(-1),
            assignments: self
                .assignments
                .iter()
                .map(|(index, brokers)| CreatableReplicaAssignment {
                    partition_index: *index,
                    broker_ids: brokers.clone(),
                    ..Default::default()
                })
                .collect(),
            configs: self
                .configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.clone().into(),
                    value: Some(value.clone().into()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

/// What a topic was created with. Brokers before Kafka 2.4 tell none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicCreated {
    /// Its id; [`Uuid::ZERO`] where brokers do not tell (before Kafka 2.8).
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: Option<i32>,
    /// How many replicas each has.
    pub replication_factor: Option<i16>,
}

/// How many partitions a topic should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// How many in all, more than it has now.
    pub count: i32,
    /// Which brokers hold each new partition, the preferred leader first. Empty: the controller
    /// decides.
    pub assignments: Vec<Vec<i32>>,
}

/// A topic as the cluster's metadata has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id; [`Uuid::ZERO`] where brokers do not tell.
    pub id: Uuid,
    /// Whether it is the cluster's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// Ordered by index.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as the cluster's metadata has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its index.
    pub index: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader's epoch; `None` where brokers do not tell.
    pub leader_epoch: Option<i32>,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The replicas that are in sync.
    pub isr: Vec<i32>,
    /// The replicas that are offline.
    pub offline: Vec<i32>,
}

impl Admin {
    /// Creates topics (CreateTopics); with `validate_only` only says whether it could.
    ///
    /// When a reply is lost the request is sent again, and a topic that the first one created is
    /// then reported as [`ErrorCode::TOPIC_ALREADY_EXISTS`].
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Results<TopicCreated> {
        let deadline = self.deadline();
        let names = topics.iter().map(|t| t.name.clone());
        self.each("topic", names, deadline, |open| async move {
            let topics: Vec<_> = topics
                .iter()
                .filter(|t| open.contains(&t.name))
                .map(NewTopic::to_wire)
                .collect();
            let response = self
                .call(To::Controller, deadline, |_| CreateTopicsRequest {
                    topics: topics.clone(),
                    timeout_ms: self.timeout_ms(deadline),
                    validate_only,
                    ..Default::default()
                })
                .await?;
            Ok(response
                .topics
                .into_iter()
                .map(|t| {
                    Answer::new(&t.name, t.error_code, t.error_message.as_ref(), || {
                        TopicCreated {
                            id: t.topic_id,
                            partitions: Some(t.num_partitions).filter(|n| *n >= 0),
                            replication_factor: Some(t.replication_factor).filter(|n| *n >= 0),
                        }
                    })
                })
                .collect())
        })
        .await
    }

    /// Deletes topics by name (DeleteTopics).
    pub async fn delete_topics(&self, names: &[&str]) -> Results<()> {
        let deadline = self.deadline();
        self.each(
            "topic",
            names.iter().map(|n| (*n).to_owned()),
            deadline,
            |open| async move {
                let response = self
                    .call(To::Controller, deadline, |version| {
                        let names = open.iter().map(|name| Str::from(name.clone()));
                        let mut request = DeleteTopicsRequest {
                            timeout_ms: self.timeout_ms(deadline),
                            ..Default::default()
                        };
                        if version >= 6 {
                            request.topics = names
                                .map(|name| DeleteTopicState {
                                    name: Some(name),
                                    ..Default::default()
                                })
                                .collect();
                        } else {
                            request.topic_names = names.collect();
                        }
                        request
                    })
                    .await?;
                Ok(response
                    .responses
                    .into_iter()
                    .map(|t| {
                        let name = t.name.unwrap_or_default();
                        // Asking again would not make it exist.
                        if t.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                            return Answer::refused(name, t.error_code);
                        }
                        Answer::new(name, t.error_code, t.error_message.as_ref(), || ())
                    })
                    .collect())
            },
        )
        .await
    }

    /// Adds partitions to topics (CreatePartitions); with `validate_only` only says whether it could.
    ///
    /// Records with keys may go to other partitions afterwards.
    pub async fn create_partitions(
        &self,
        topics: &[NewPartitions],
        validate_only: bool,
    ) -> Results<()> {
        let deadline = self.deadline();
        let names = topics.iter().map(|t| t.topic.clone());
        self.each("topic", names, deadline, |open| async move {
            let topics: Vec<_> = topics
                .iter()
                .filter(|t| open.contains(&t.topic))
                .map(|t| CreatePartitionsTopic {
                    name: t.topic.clone().into(),
                    count: t.count,
                    assignments: (!t.assignments.is_empty()).then(|| {
                        t.assignments
                            .iter()
                            .map(|brokers| CreatePartitionsAssignment {
                                broker_ids: brokers.clone(),
                                ..Default::default()
                            })
                            .collect()
                    }),
                    ..Default::default()
                })
                .collect();
            let response = self
                .call(To::Controller, deadline, |_| CreatePartitionsRequest {
                    topics: topics.clone(),
                    timeout_ms: self.timeout_ms(deadline),
                    validate_only,
                    ..Default::default()
                })
                .await?;
            Ok(response
                .results
                .into_iter()
                .map(|t| Answer::new(&t.name, t.error_code, t.error_message.as_ref(), || ()))
                .collect())
        })
        .await
    }

    /// All topics that this client may see, by name (Metadata).
    ///
    /// # Errors
    /// [`Error::Net`] if no broker answers in time.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, Error> {
        let response = self
            .call(To::Any, self.deadline(), |_| MetadataRequest {
                topics: None,
                allow_auto_topic_creation: false,
                ..Default::default()
            })
            .await?;
        let mut topics: Vec<_> = response
            .topics
            .into_iter()
            .filter(|t| t.error_code.is_ok())
            .map(describe)
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Topics by name (Metadata). An unknown one is an error of its own, at once.
    pub async fn describe_topics(&self, names: &[&str]) -> Results<TopicDescription> {
        let deadline = self.deadline();
        self.each(
            "topic",
            names.iter().map(|n| (*n).to_owned()),
            deadline,
            |open| async move {
                let response = self
                    .call(To::Any, deadline, |_| MetadataRequest {
                        topics: Some(
                            open.iter()
                                .map(|name| MetadataRequestTopic {
                                    name: Some(name.clone().into()),
                                    ..Default::default()
                                })
                                .collect(),
                        ),
                        allow_auto_topic_creation: false,
                        ..Default::default()
                    })
                    .await?;
                Ok(response
                    .topics
                    .into_iter()
                    .map(|topic| {
                        let name = topic.name.clone().unwrap_or_default();
                        // Retriable for those who just created it; whoever asks about a topic by name
                        // wants to hear at once that it is not there.
                        if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                            return Answer::refused(&name, topic.error_code);
                        }
                        Answer::new(&name, topic.error_code, None::<&str>, || describe(topic))
                    })
                    .collect())
            },
        )
        .await
    }
}

fn describe(topic: MetadataResponseTopic) -> TopicDescription {
    let mut partitions: Vec<_> = topic
        .partitions
        .into_iter()
        .map(|p| PartitionDescription {
            index: p.partition_index,
            leader: Some(p.leader_id).filter(|id| *id >= 0),
            leader_epoch: Some(p.leader_epoch).filter(|epoch| *epoch >= 0),
            replicas: p.replica_nodes,
            isr: p.isr_nodes,
            offline: p.offline_replicas,
        })
        .collect();
    partitions.sort_by_key(|p| p.index);
    TopicDescription {
        name: topic.name.unwrap_or_default().to_string(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_assignments_leave_the_counts_to_the_broker() {
        let wire = NewTopic::new("t")
            .partitions(3)
            .replication_factor(2)
            .to_wire();
        assert_eq!((wire.num_partitions, wire.replication_factor), (3, 2));
        let wire = NewTopic::new("t").to_wire();
        assert_eq!((wire.num_partitions, wire.replication_factor), (-1, -1));
        let mut topic = NewTopic::new("t").partitions(3).config("retention.ms", "1");
        topic.assignments.insert(0, vec![1, 2]);
        let wire = topic.to_wire();
        assert_eq!((wire.num_partitions, wire.replication_factor), (-1, -1));
        assert_eq!(wire.assignments[0].broker_ids, [1, 2]);
        assert_eq!(wire.configs[0].value.as_deref(), Some("1"));
    }
}
