//! ConsumerGroupDescribe: groups of KIP-848, of which there are none yet; tools then ask DescribeGroups.

use ottla_wire::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use ottla_wire::{ErrorCode, Str};

use super::Serve;
use crate::context::Context;

impl Serve for ConsumerGroupDescribeRequest {
    async fn serve(self, context: &Context) -> Option<ConsumerGroupDescribeResponse> {
        let describe = |id: &Str| {
            if let Err(error) = context.check_coordinator(id) {
                return failed(id, error, error.meaning().to_owned());
            }
            let message = match context.shared.groups.lock().get(id) {
                Some(_) => format!("Group {id} is not a consumer group."),
                None => format!("Group {id} not found."),
            };
            failed(id, ErrorCode::GROUP_ID_NOT_FOUND, message)
        };
        Some(ConsumerGroupDescribeResponse {
            groups: self.group_ids.iter().map(describe).collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ConsumerGroupDescribeResponse {
        let groups = self.group_ids.iter();
        ConsumerGroupDescribeResponse {
            groups: groups
                .map(|id| failed(id, error, error.meaning().to_owned()))
                .collect(),
            ..Default::default()
        }
    }
}

fn failed(id: &Str, error_code: ErrorCode, message: String) -> DescribedGroup {
    DescribedGroup {
        error_code,
        error_message: Some(message.into()),
        group_id: id.clone(),
        ..Default::default()
    }
}
