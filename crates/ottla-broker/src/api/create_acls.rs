//! CreateAcls: there is nobody here who would obey them.

use ottla_wire::ErrorCode;
use ottla_wire::messages::create_acls::{AclCreationResult, CreateAclsRequest, CreateAclsResponse};

use super::Serve;
use super::describe_acls::NO_AUTHORIZER;
use crate::context::Context;

impl Serve for CreateAclsRequest {
    async fn serve(self, _: &Context) -> Option<CreateAclsResponse> {
        Some(self.all(ErrorCode::SECURITY_DISABLED, NO_AUTHORIZER))
    }

    fn refuse(&self, error: ErrorCode) -> CreateAclsResponse {
        self.all(error, error.meaning())
    }
}

trait All {
    fn all(&self, error: ErrorCode, message: &str) -> CreateAclsResponse;
}

impl All for CreateAclsRequest {
    fn all(&self, error: ErrorCode, message: &str) -> CreateAclsResponse {
        let result = AclCreationResult {
            error_code: error,
            error_message: Some(message.into()),
            ..Default::default()
        };
        CreateAclsResponse {
            results: vec![result; self.creations.len()],
            ..Default::default()
        }
    }
}
