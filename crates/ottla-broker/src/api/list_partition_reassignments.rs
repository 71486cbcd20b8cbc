//! ListPartitionReassignments: none is ever under way, for here each is over when it is answered.

use ottla_wire::ErrorCode;
use ottla_wire::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::Serve;
use crate::context::Context;

impl Serve for ListPartitionReassignmentsRequest {
    async fn serve(self, _: &Context) -> Option<ListPartitionReassignmentsResponse> {
        Some(ListPartitionReassignmentsResponse {
            error_message: None,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ListPartitionReassignmentsResponse {
        ListPartitionReassignmentsResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            ..Default::default()
        }
    }
}
