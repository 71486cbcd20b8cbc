//! Whether racks are worth heeding (KIP-881): only if members and replicas share some, and a partition's
//! replicas are not everywhere anyway.

use std::collections::BTreeSet;

use super::Member;
use crate::Str;

impl Member {
    /// `client.rack`, if it says anything.
    pub(super) fn known_rack(&self) -> Option<&Str> {
        self.rack.as_ref().filter(|rack| !rack.is_empty())
    }
}

/// `members` are the racks that members are in, `partitions` those of the replicas of each partition.
pub(super) fn matter<'a>(
    members: impl IntoIterator<Item = &'a Str>,
    partitions: impl IntoIterator<Item = &'a [Str]> + Clone,
) -> bool {
    let everywhere: BTreeSet<&Str> = partitions.clone().into_iter().flatten().collect();
    members.into_iter().any(|rack| everywhere.contains(rack))
        && partitions.into_iter().any(|racks| {
            let racks: BTreeSet<&Str> = racks.iter().collect();
            racks != everywhere
        })
}
