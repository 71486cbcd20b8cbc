//! CreatePartitions: topics grow.

use ottla_wire::ErrorCode;
use ottla_wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};

use super::Serve;
use crate::context::Context;
use crate::topics;

impl Serve for CreatePartitionsRequest {
    async fn serve(self, context: &Context) -> Option<CreatePartitionsResponse> {
        let results = self
            .topics
            .iter()
            .map(|topic| {
                let assignment: Vec<Vec<i32>> = topic
                    .assignments
                    .iter()
                    .flatten()
                    .map(|assignment| assignment.broker_ids.clone())
                    .collect();
                let shared = &context.shared;
                let grown = topics::add_partitions(
                    shared,
                    &topic.name,
                    topic.count,
                    &assignment,
                    self.validate_only,
                );
                let (error_code, error_message) = match grown {
                    Ok(()) => (ErrorCode::NONE, None),
                    Err(error) => (error.error, Some(error.message.into())),
                };
                CreatePartitionsTopicResult {
                    name: topic.name.clone(),
                    error_code,
                    error_message,
                    ..Default::default()
                }
            })
            .collect();
        Some(CreatePartitionsResponse {
            results,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> CreatePartitionsResponse {
        let results = self
            .topics
            .iter()
            .map(|topic| CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code: error,
                ..Default::default()
            })
            .collect();
        CreatePartitionsResponse {
            results,
            ..Default::default()
        }
    }
}
