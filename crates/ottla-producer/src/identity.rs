//! Who this producer is to the brokers: a producer id and an epoch (KIP-98, KIP-360).
//!
//! Owns the current identity and the rules of changing it. A partition takes the current identity over
//! when nothing of it is in flight or in doubt (see `sender::lane`); until then it goes on under its
//! old one, which the brokers accept, because they keep an idempotent producer's epoch per partition.

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// Where the producer stands with its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Records are not numbered.
    Unused,
    /// To be asked for with InitProducerId, once there is something to send.
    Missing,
    Known(ProducerIdentity),
    /// As [`Known`](Self::Known), given to a transactional id: only its coordinator may change it.
    Assigned(ProducerIdentity),
}

impl Identity {
    pub(crate) fn known(self) -> Option<ProducerIdentity> {
        match self {
            Self::Known(identity) | Self::Assigned(identity) => Some(identity),
            _ => None,
        }
    }

    /// Leaves `used` behind: sequences may start anew. The epoch is bumped here, without asking a
    /// broker, as KIP-360 allows where there is no transactional id; an exhausted one needs a new
    /// producer id. Does nothing if the identity has moved on from `used` already, so that
    /// partitions that fail together cost one bump.
    pub(crate) fn bump(&mut self, used: ProducerIdentity) {
        if *self == Self::Known(used) {
            *self = match used.epoch.checked_add(1) {
                Some(epoch) => Self::Known(ProducerIdentity { epoch, ..used }),
                None => Self::Missing,
            };
        }
    }

    /// Forgets `used`, which the brokers do not accept (any more): another producer id is needed.
    pub(crate) fn forget(&mut self, used: ProducerIdentity) {
        if *self == Self::Known(used) {
            *self = Self::Missing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ProducerIdentity = ProducerIdentity { id: 7, epoch: 0 };

    #[test]
    fn partitions_that_fail_together_bump_once() {
        let mut identity = Identity::Known(FIRST);
        identity.bump(FIRST);
        identity.bump(FIRST);
        assert_eq!(
            identity,
            Identity::Known(ProducerIdentity { id: 7, epoch: 1 })
        );
    }

    #[test]
    fn an_identity_of_a_transactional_id_is_not_changed_here() {
        let mut identity = Identity::Assigned(FIRST);
        identity.bump(FIRST);
        identity.forget(FIRST);
        assert_eq!(identity, Identity::Assigned(FIRST));
        assert_eq!(identity.known(), Some(FIRST));
    }

    #[test]
    fn an_exhausted_epoch_needs_a_new_id() {
        let last = ProducerIdentity {
            id: 7,
            epoch: i16::MAX,
        };
        let mut identity = Identity::Known(last);
        identity.bump(last);
        assert_eq!(identity, Identity::Missing);
    }
}
