//! AlterClientQuotas, API 49: changes quotas.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-1, flexible from 1.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 49, versions = "0-1", flexible = "1+")]
pub struct AlterClientQuotasRequest {
    pub entries: Vec<AlterClientQuotasRequestEntryData>,
    pub validate_only: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterClientQuotasRequest::entries`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterClientQuotasRequestEntryData {
    pub entity: Vec<EntityData>,
    pub ops: Vec<OpData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterClientQuotasRequestEntryData::entity`].
#[derive(Clone, PartialEq, Struct)]
pub struct EntityData {
    pub entity_type: Str,
    #[kafka(default = "")]
    pub entity_name: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterClientQuotasRequestEntryData::ops`].
#[derive(Clone, PartialEq, Struct)]
pub struct OpData {
    pub key: Str,
    pub value: f64,
    pub remove: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible from 1.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "1+")]
pub struct AlterClientQuotasResponse {
    pub throttle_time_ms: i32,
    pub entries: Vec<AlterClientQuotasResponseEntryData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterClientQuotasResponse::entries`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterClientQuotasResponseEntryData {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub entity: Vec<EntityData>,
    pub unknown_tagged_fields: TaggedFields,
}
