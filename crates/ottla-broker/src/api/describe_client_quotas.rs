//! DescribeClientQuotas: nobody is held to any.

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_client_quotas::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};

use super::Serve;
use crate::context::Context;

impl Serve for DescribeClientQuotasRequest {
    async fn serve(self, _: &Context) -> Option<DescribeClientQuotasResponse> {
        Some(DescribeClientQuotasResponse {
            error_message: None,
            entries: Some(Vec::new()),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeClientQuotasResponse {
        DescribeClientQuotasResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            entries: None,
            ..Default::default()
        }
    }
}
