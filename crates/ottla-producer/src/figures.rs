//! A producer's own count of its records, and the snapshot of all its figures.

use std::sync::Arc;

use crate::client::Client;
use crate::metrics::ProducerMetrics;
use crate::topics::Partition;

impl Client {
    /// Records ever accepted.
    fn records_accepted(&self) -> u64 {
        let partitions = self.partitions.read().clone();
        let accepted = |partition: &Arc<Partition>| partition.front.lock().queue.taken();
        partitions.iter().map(accepted).sum()
    }

    /// Records whose outcome is open.
    pub(crate) fn records_outstanding(&self) -> u64 {
        // In this order: what is accepted in between counts too much, never too little.
        let settled = self.supplies.outstanding.meters.records_settled();
        self.records_accepted().saturating_sub(settled)
    }

    pub(crate) fn metrics(&self) -> ProducerMetrics {
        let outstanding = &self.supplies.outstanding;
        let places = outstanding.places.as_ref();
        ProducerMetrics {
            buffered_bytes: self.supplies.budget.used(),
            waiting_callers: self.supplies.budget.waiting()
                + places.map_or(0, |places| places.waiting()),
            ..outstanding.meters.snapshot(|| self.records_accepted())
        }
    }
}
