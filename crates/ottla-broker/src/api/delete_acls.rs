//! DeleteAcls: there are none.

use ottla_wire::ErrorCode;
use ottla_wire::messages::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse,
};

use super::Serve;
use super::describe_acls::NO_AUTHORIZER;
use crate::context::Context;

impl Serve for DeleteAclsRequest {
    async fn serve(self, _: &Context) -> Option<DeleteAclsResponse> {
        Some(self.all(ErrorCode::SECURITY_DISABLED, NO_AUTHORIZER))
    }

    fn refuse(&self, error: ErrorCode) -> DeleteAclsResponse {
        self.all(error, error.meaning())
    }
}

trait All {
    fn all(&self, error: ErrorCode, message: &str) -> DeleteAclsResponse;
}

impl All for DeleteAclsRequest {
    fn all(&self, error: ErrorCode, message: &str) -> DeleteAclsResponse {
        let result = DeleteAclsFilterResult {
            error_code: error,
            error_message: Some(message.into()),
            ..Default::default()
        };
        DeleteAclsResponse {
            filter_results: vec![result; self.filters.len()],
            ..Default::default()
        }
    }
}
