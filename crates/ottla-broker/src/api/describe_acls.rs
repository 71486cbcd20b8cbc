//! DescribeAcls: there is nobody here who would obey them.

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};

use super::Serve;
use crate::context::Context;

impl Serve for DescribeAclsRequest {
    async fn serve(self, _: &Context) -> Option<DescribeAclsResponse> {
        Some(DescribeAclsResponse {
            error_code: ErrorCode::SECURITY_DISABLED,
            error_message: Some(NO_AUTHORIZER.into()),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeAclsResponse {
        DescribeAclsResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            ..Default::default()
        }
    }
}

/// What Kafka says where none is.
pub(super) const NO_AUTHORIZER: &str = "No Authorizer is configured.";
