//! EndTxnMarker: the value of a control record that ends a transaction.

use ottla_wire_derive::Message;

use crate::TaggedFields;

/// Version 0, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0")]
pub struct EndTxnMarker {
    pub coordinator_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}
