//! Giving up on records: because the program wishes it, or because a gap must not be written behind.

use std::sync::Arc;

use tokio::time::Instant;

use crate::client::Client;
use crate::error::SendError;

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

impl Client {
    /// Gives up on records by the program's wish. See [`Producer::purge`](crate::Producer::purge).
    pub(crate) fn purge_now(self: &Arc<Self>, queued: bool, in_flight: bool) {
        if queued {
            let partitions = self.partitions.read().clone();
            for partition in &partitions {
                let mut front = partition.front.lock();
                let given_up = front.queue.end();
                // What the sender was told of is gone: the next record must be told of anew.
                front.told = false;
                self.core.lock().front_emptied(partition.slot);
                drop(front);
                for batch in given_up {
                    batch.settle(SendError::Purged.into(), &self.supplies.buffers);
                }
            }
        }
        let mut core = self.core.lock();
        core.purge(queued, in_flight, Instant::now());
        let effects = core.take_effects();
        drop(core);
        self.carry_out(effects, None);
    }

    /// Ends the producer where `enable.gapless.guarantee` demands it, because records were lost for `reason`.
    pub(crate) fn keep_gapless(self: &Arc<Self>, reason: &str) {
        if self.config.gapless {
            let reason =
                format!("enable.gapless.guarantee: records before the next were lost: {reason}");
            self.fail(&SendError::Fatal {
                reason: reason.into(),
            });
        }
    }
}
