//! ControlRecordTypeSchema: the key of a control record.

use ottla_wire_derive::Message;

use crate::TaggedFields;

/// Version 0, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0")]
pub struct ControlRecordTypeSchema {
    pub r#type: i16,
    pub unknown_tagged_fields: TaggedFields,
}
