//! DescribeClientQuotas, API 48: reads quotas.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-1, flexible from 1.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 48, versions = "0-1", flexible = "1+")]
pub struct DescribeClientQuotasRequest {
    pub components: Vec<ComponentData>,
    pub strict: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeClientQuotasRequest::components`].
#[derive(Clone, PartialEq, Struct)]
pub struct ComponentData {
    pub entity_type: Str,
    pub match_type: i8,
    #[kafka(default = "")]
    pub r#match: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible from 1.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "1+")]
pub struct DescribeClientQuotasResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    #[kafka(default = [])]
    pub entries: Option<Vec<EntryData>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeClientQuotasResponse::entries`].
#[derive(Clone, PartialEq, Struct)]
pub struct EntryData {
    pub entity: Vec<EntityData>,
    pub values: Vec<ValueData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`EntryData::entity`].
#[derive(Clone, PartialEq, Struct)]
pub struct EntityData {
    pub entity_type: Str,
    #[kafka(default = "")]
    pub entity_name: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`EntryData::values`].
#[derive(Clone, PartialEq, Struct)]
pub struct ValueData {
    pub key: Str,
    pub value: f64,
    pub unknown_tagged_fields: TaggedFields,
}
