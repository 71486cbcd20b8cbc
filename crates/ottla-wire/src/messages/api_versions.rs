//! ApiVersions, API 18: tells which versions of which APIs a broker speaks.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-4, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 18, versions = "0-4", flexible = "3+")]
pub struct ApiVersionsRequest {
    #[kafka("3+", ignorable)]
    pub client_software_name: Str,
    #[kafka("3+", ignorable)]
    pub client_software_version: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-4, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = "3+")]
pub struct ApiVersionsResponse {
    pub error_code: ErrorCode,
    pub api_keys: Vec<ApiVersion>,
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    #[kafka("3+", tag = 0, ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    #[kafka("3+", tag = 1, default = -1, ignorable)]
    pub finalized_features_epoch: i64,
    #[kafka("3+", tag = 2, ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    #[kafka("3+", tag = 3, ignorable)]
    pub zk_migration_ready: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ApiVersionsResponse::api_keys`].
#[derive(Clone, PartialEq, Struct)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ApiVersionsResponse::supported_features`].
#[derive(Clone, PartialEq, Struct)]
pub struct SupportedFeatureKey {
    pub name: Str,
    pub min_version: i16,
    pub max_version: i16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ApiVersionsResponse::finalized_features`].
#[derive(Clone, PartialEq, Struct)]
pub struct FinalizedFeatureKey {
    pub name: Str,
    pub max_version_level: i16,
    pub min_version_level: i16,
    pub unknown_tagged_fields: TaggedFields,
}
