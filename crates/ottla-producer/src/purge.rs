//! What a purge gives up on.

/// Which records [`Producer::purge`](crate::Producer::purge) gives up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge {
    /// Those that wait to be sent, or to be sent again.
    pub queued: bool,
    /// Those that were sent and not answered.
    pub in_flight: bool,
}

impl Purge {
    /// What waits to be sent.
    pub const QUEUED: Self = Self {
        queued: true,
        in_flight: false,
    };
    /// What was sent and is not answered.
    pub const IN_FLIGHT: Self = Self {
        queued: false,
        in_flight: true,
    };
    /// Everything.
    pub const ALL: Self = Self {
        queued: true,
        in_flight: true,
    };
}
