//! Membership in a group.
#[allow(dead_code, reason = "the membership that speaks it follows")]
mod protocol;
