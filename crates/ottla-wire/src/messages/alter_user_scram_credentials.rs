//! AlterUserScramCredentials, API 51: changes users' SCRAM credentials.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 51, versions = "0", flexible = "0+")]
pub struct AlterUserScramCredentialsRequest {
    pub deletions: Vec<ScramCredentialDeletion>,
    pub upsertions: Vec<ScramCredentialUpsertion>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterUserScramCredentialsRequest::deletions`].
#[derive(Clone, PartialEq, Struct)]
pub struct ScramCredentialDeletion {
    pub name: Str,
    pub mechanism: i8,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterUserScramCredentialsRequest::upsertions`].
#[derive(Clone, PartialEq, Struct)]
pub struct ScramCredentialUpsertion {
    pub name: Str,
    pub mechanism: i8,
    pub iterations: i32,
    pub salt: Bytes,
    pub salted_password: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct AlterUserScramCredentialsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<AlterUserScramCredentialsResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterUserScramCredentialsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterUserScramCredentialsResult {
    pub user: Str,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
