//! DescribeUserScramCredentials: nobody has any.

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};

use super::Serve;
use crate::context::Context;

impl Serve for DescribeUserScramCredentialsRequest {
    async fn serve(self, _: &Context) -> Option<DescribeUserScramCredentialsResponse> {
        let results = self
            .users
            .iter()
            .flatten()
            .map(|user| DescribeUserScramCredentialsResult {
                user: user.name.clone(),
                error_code: ErrorCode::RESOURCE_NOT_FOUND,
                error_message: Some(
                    format!(
                        "Attempt to describe a user credential that does not exist: {}",
                        user.name
                    )
                    .into(),
                ),
                ..Default::default()
            })
            .collect();
        Some(DescribeUserScramCredentialsResponse {
            error_message: None,
            results,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeUserScramCredentialsResponse {
        DescribeUserScramCredentialsResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            ..Default::default()
        }
    }
}
