//! DeleteShareGroupOffsets: a share group without members forgets topics, and begins in them where its settings say
//! (KIP-932).

use ottla_wire::messages::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use super::alter_share_group_offsets::change_offsets;
use super::metadata::resolve;
use crate::context::Context;

impl Serve for DeleteShareGroupOffsetsRequest {
    async fn serve(self, context: &Context) -> Option<DeleteShareGroupOffsetsResponse> {
        let topics = self.topics.iter();
        let topics: Vec<Uuid> = topics
            .map(|topic| {
                let topic = resolve(context, &topic.topic_name, Uuid::ZERO);
                topic.map_or(Uuid::ZERO, |topic| topic.id)
            })
            .collect();
        let mut known = Vec::with_capacity(topics.len());
        let deleted = change_offsets(context, &self.group_id, false, |group| {
            known.extend(topics.iter().map(|topic| group.knows_topic(*topic)));
            group.forget_topics(&topics.iter().copied().collect())
        });
        if let Err(error) = deleted.await {
            return Some(self.refuse(error));
        }
        let responses = self.topics.iter().zip(topics).zip(known);
        Some(DeleteShareGroupOffsetsResponse {
            error_message: None,
            responses: responses
                .map(|((asked, id), known)| answer(asked.topic_name.clone(), id, known))
                .collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DeleteShareGroupOffsetsResponse {
        DeleteShareGroupOffsetsResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            ..Default::default()
        }
    }
}

fn answer(
    topic_name: Str,
    topic_id: Uuid,
    was_known: bool,
) -> DeleteShareGroupOffsetsResponseTopic {
    let (error_code, message) = match was_known {
        true => (ErrorCode::NONE, None),
        false if topic_id == Uuid::ZERO => {
            let error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            (error, Some(error.meaning()))
        }
        false => {
            let message = "The group has no offsets of this topic.";
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(message))
        }
    };
    DeleteShareGroupOffsetsResponseTopic {
        topic_name,
        topic_id,
        error_code,
        error_message: message.map(Into::into),
        ..Default::default()
    }
}
