//! DeleteTopics, by name or by id.

use ottla_wire::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use crate::context::Context;
use crate::topics;

impl Serve for DeleteTopicsRequest {
    async fn serve(self, context: &Context) -> Option<DeleteTopicsResponse> {
        let responses = asked(&self)
            .map(|(name, topic_id)| delete(context, name, topic_id))
            .collect();
        Some(DeleteTopicsResponse {
            responses,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DeleteTopicsResponse {
        let responses = asked(self)
            .map(|(name, topic_id)| DeletableTopicResult {
                name,
                topic_id,
                error_code: error,
                ..Default::default()
            })
            .collect();
        DeleteTopicsResponse {
            responses,
            ..Default::default()
        }
    }
}

fn asked(request: &DeleteTopicsRequest) -> impl Iterator<Item = (Option<Str>, Uuid)> {
    let by_name = request
        .topic_names
        .iter()
        .map(|name| (Some(name.clone()), Uuid::ZERO));
    let by_state = request
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), topic.topic_id));
    by_name.chain(by_state)
}

fn delete(context: &Context, name: Option<Str>, topic_id: Uuid) -> DeletableTopicResult {
    let known = match &name {
        Some(name) => Some(name.to_string()),
        None => context
            .shared
            .cluster
            .read()
            .topic_by_id(topic_id)
            .map(|topic| topic.name.clone()),
    };
    let failed = |error_code, message: String| DeletableTopicResult {
        name: name.clone(),
        topic_id,
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    };
    let Some(known) = known else {
        return failed(
            ErrorCode::UNKNOWN_TOPIC_ID,
            "This server does not host this topic ID.".into(),
        );
    };
    match topics::delete(&context.shared, &known) {
        Ok(topic) => DeletableTopicResult {
            name: Some(topic.name.as_str().into()),
            topic_id: topic.id,
            ..Default::default()
        },
        Err(error) => failed(error.error, error.message),
    }
}
