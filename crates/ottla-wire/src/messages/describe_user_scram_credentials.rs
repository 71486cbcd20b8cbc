//! DescribeUserScramCredentials, API 50: lists users' SCRAM credentials.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 50, versions = "0", flexible = "0+")]
pub struct DescribeUserScramCredentialsRequest {
    #[kafka(default = [])]
    pub users: Option<Vec<UserName>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeUserScramCredentialsRequest::users`].
#[derive(Clone, PartialEq, Struct)]
pub struct UserName {
    pub name: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct DescribeUserScramCredentialsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub results: Vec<DescribeUserScramCredentialsResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeUserScramCredentialsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeUserScramCredentialsResult {
    pub user: Str,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub credential_infos: Vec<CredentialInfo>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeUserScramCredentialsResult::credential_infos`].
#[derive(Clone, PartialEq, Struct)]
pub struct CredentialInfo {
    pub mechanism: i8,
    pub iterations: i32,
    pub unknown_tagged_fields: TaggedFields,
}
