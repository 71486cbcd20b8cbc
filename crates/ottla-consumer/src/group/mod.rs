//! Membership in a group, as plain state machines: who we are in it and what we own, by the
//! [`classic`] protocol or the [`consumer`] protocol ([`membership`] is either), what we commit ([`commit`]), and the
//! bytes that members of classic groups exchange ([`protocol`]).

pub(crate) mod classic;
pub(crate) mod commit;
pub(crate) mod consumer;
#[cfg(test)]
mod consumer_tests;
pub(crate) mod membership;
mod presence;
pub(crate) mod protocol;
#[cfg(test)]
mod tests;
