//! Membership in a group, as plain state machines: who we are in it and what we own ([`classic`]),
//! what we commit ([`commit`]), and the bytes members exchange ([`protocol`]).

pub(crate) mod classic;
pub(crate) mod commit;
pub(crate) mod protocol;
#[cfg(test)]
mod tests;
