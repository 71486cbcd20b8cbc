//! Records as a share consumer hands them out.

use std::{ops::Deref, sync::Arc};

use super::core::PartitionId;
use crate::Record;

/// A record that this member has acquired: nobody else is handed it until it is acknowledged, or its acquisition lock
/// times out.
#[derive(Debug, Clone)]
pub struct ShareRecord {
    record: Record,
    delivery_count: i16,
    lender: Arc<Lender>,
}

impl ShareRecord {
    pub(super) fn new(record: Record, delivery_count: i16, lender: Arc<Lender>) -> Self {
        Self {
            record,
            delivery_count,
            lender,
        }
    }

    /// How often it was handed to a member of the group, this time included: from 1, to the group's
    /// `share.delivery.count.limit`. The broker's count: a delivery that nobody noticed, because a member died or its
    /// answer was lost, counts, too.
    pub fn delivery_count(&self) -> i16 {
        self.delivery_count
    }

    /// The broker that it was acquired from, and that is told what becomes of it. A record comes again from another one when
    /// the partition's leader has moved; this tells which of the two an [`AcknowledgeOutcome`](super::AcknowledgeOutcome) is
    /// about.
    pub fn node(&self) -> i32 {
        self.lender.node
    }

    /// The record alone.
    pub fn into_record(self) -> Record {
        self.record
    }

    pub(super) fn lender(&self) -> &Lender {
        &self.lender
    }
}

impl Deref for ShareRecord {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

/// Whom to tell what becomes of a record: the broker that it was acquired from.
#[derive(Debug)]
pub(super) struct Lender {
    pub(super) node: i32,
    pub(super) id: PartitionId,
}
