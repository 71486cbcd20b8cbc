//! Heartbeats of the consumer protocol (KIP-848): what members say that they have, and what they are given.

use std::fmt;

use super::{Member, Part, parts};

/// A ConsumerGroupHeartbeat that left a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Beat {
    pub(crate) member: Member,
    /// That nothing else in this history has.
    pub(crate) number: u64,
    /// It may have waited to leave since then.
    pub(crate) queued_ms: u64,
    /// Under which member id.
    pub(crate) id: String,
    /// 0: joins; below: leaves.
    pub(crate) epoch: i32,
    /// Tells everything, as one does that knows not what the coordinator knows.
    pub(crate) full: bool,
    /// What the member says that it has; none if it says nothing new of that.
    pub(crate) owned: Option<Vec<Part>>,
}

/// The answer to a [`Beat`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Beaten {
    pub(crate) member: Member,
    /// Of the heartbeat.
    pub(crate) number: u64,
    pub(crate) id: String,
    /// The epoch that the heartbeat was sent in, and when.
    pub(crate) asked: i32,
    pub(crate) sent_ms: u64,
    pub(crate) error: i16,
    pub(crate) epoch: i32,
    /// What the member shall have; none if that is no news.
    pub(crate) assignment: Option<Vec<Part>>,
    /// In good time: it surely still waited for the answer.
    pub(crate) heeded: bool,
}

impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member, id, epoch, ..
        } = self;
        let full = if self.full { ", tells all" } else { "" };
        write!(f, "m{member} beats as {id:?} in epoch {epoch}{full}")?;
        if let Some(owned) = &self.owned {
            f.write_str(", has")?;
            parts(f, owned)?;
        }
        Ok(())
    }
}

impl fmt::Display for Beaten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, epoch, .. } = self;
        let late = if self.heeded { "" } else { ", late," };
        if self.error != 0 {
            let error = ottla_wire::ErrorCode(self.error);
            let asked = self.asked;
            return write!(f, "m{member}{late} hears {error} about epoch {asked}");
        }
        write!(f, "m{member}{late} is in epoch {epoch}")?;
        if let Some(assignment) = &self.assignment {
            f.write_str(", shall have")?;
            parts(f, assignment)?;
        }
        Ok(())
    }
}
