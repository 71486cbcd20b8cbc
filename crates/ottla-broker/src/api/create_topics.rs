//! CreateTopics: each topic is made or refused by itself.

use std::collections::HashMap;

use ottla_wire::ErrorCode;
use ottla_wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

use super::Serve;
use super::describe_configs::{SOURCE_DEFAULT, SOURCE_TOPIC};
use crate::cluster::Topic;
use crate::context::Context;
use crate::topic_config::SETTINGS;
use crate::topics::{self, NewTopic, TopicError};

impl Serve for CreateTopicsRequest {
    async fn serve(self, context: &Context) -> Option<CreateTopicsResponse> {
        if let Err(error) = check_size(context, &self) {
            let topics = self.topics.iter();
            return Some(CreateTopicsResponse {
                topics: topics
                    .map(|asked| failed(asked, error.error, &error.message))
                    .collect(),
                ..Default::default()
            });
        }
        let mut times: HashMap<&str, usize> = HashMap::new();
        for asked in &self.topics {
            *times.entry(&asked.name).or_default() += 1;
        }
        let topics = self
            .topics
            .iter()
            .map(|asked| {
                let made = if times[&*asked.name] > 1 {
                    Err(TopicError {
                        error: ErrorCode::INVALID_REQUEST,
                        message: "Duplicate topic name.".to_owned(),
                    })
                } else {
                    topics::create(&context.shared, &new_topic(asked), self.validate_only)
                };
                match made {
                    Ok(topic) => result(&topic, self.validate_only),
                    Err(error) => failed(asked, error.error, &error.message),
                }
            })
            .collect();
        Some(CreateTopicsResponse {
            topics,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> CreateTopicsResponse {
        let topics = self
            .topics
            .iter()
            .map(|asked| failed(asked, error, error.name()))
            .collect();
        CreateTopicsResponse {
            topics,
            ..Default::default()
        }
    }
}

/// Refuses, as Kafka does, a request for very many partitions, however they are spread over topics.
fn check_size(context: &Context, request: &CreateTopicsRequest) -> Result<(), TopicError> {
    let partitions = request.topics.iter().map(|asked| {
        let counted = match asked.num_partitions {
            -1 => context.shared.options.partitions,
            count => count,
        };
        usize::try_from(counted)
            .unwrap_or(0)
            .max(asked.assignments.len())
    });
    if partitions.sum::<usize>() <= PARTITIONS_PER_REQUEST_MAX {
        return Ok(());
    }
    Err(TopicError {
        error: ErrorCode::POLICY_VIOLATION,
        message: "Excessively large number of partitions per request.".to_owned(),
    })
}

fn new_topic(asked: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: asked.name.to_string(),
        // -1 asks for the broker's default (KIP-464).
        partitions: (asked.num_partitions != -1).then_some(asked.num_partitions),
        replication: (asked.replication_factor != -1).then_some(asked.replication_factor),
        assignment: asked
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, assignment.broker_ids.clone()))
            .collect(),
        config: asked
            .configs
            .iter()
            .filter_map(|config| {
                Some((config.name.to_string(), config.value.as_ref()?.to_string()))
            })
            .collect(),
    }
}

fn result(topic: &Topic, validate_only: bool) -> CreatableTopicResult {
    let configs = SETTINGS
        .iter()
        .map(|setting| {
            let (value, is_set) = topic.config.value(setting);
            CreatableTopicConfigs {
                name: setting.name.into(),
                value: Some(value.into()),
                config_source: if is_set { SOURCE_TOPIC } else { SOURCE_DEFAULT },
                ..Default::default()
            }
        })
        .collect();
    CreatableTopicResult {
        name: topic.name.as_str().into(),
        topic_id: if validate_only {
            ottla_wire::Uuid::ZERO
        } else {
            topic.id
        },
        error_message: None,
        num_partitions: topic.partitions.len() as i32,
        replication_factor: topic
            .partitions
            .first()
            .map_or(-1, |p| p.state.lock().replicas.len() as i16),
        configs: Some(configs),
        ..Default::default()
    }
}

fn failed(asked: &CreatableTopic, error_code: ErrorCode, message: &str) -> CreatableTopicResult {
    CreatableTopicResult {
        name: asked.name.clone(),
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    }
}

/// Kafka's controller has the same limit.
const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;
