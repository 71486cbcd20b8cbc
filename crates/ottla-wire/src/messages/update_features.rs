//! UpdateFeatures, API 57: changes the cluster's feature levels.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 57, versions = "0-2", flexible = "0+")]
pub struct UpdateFeaturesRequest {
    #[kafka(default = 60000)]
    pub timeout_ms: i32,
    pub feature_updates: Vec<FeatureUpdateKey>,
    #[kafka("1+")]
    pub validate_only: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`UpdateFeaturesRequest::feature_updates`].
#[derive(Clone, PartialEq, Struct)]
pub struct FeatureUpdateKey {
    pub feature: Str,
    pub max_version_level: i16,
    #[kafka("0")]
    pub allow_downgrade: bool,
    #[kafka("1+", default = 1)]
    pub upgrade_type: i8,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "0+")]
pub struct UpdateFeaturesResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    #[kafka("0-1", ignorable)]
    pub results: Vec<UpdatableFeatureResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`UpdateFeaturesResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct UpdatableFeatureResult {
    pub feature: Str,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
