//! One broker of a share consumer: the share session with it, and what is lent from its partitions.
//!
//! Part of the core's state machine: makes the orders of one session, and keeps what they say until they are answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use ottla_wire::ErrorCode;

use super::{
    acknowledge::{Acknowledged, on_wire},
    core::{Api, Order, PartitionId},
    held::{Held, Run},
    outcome::{AcknowledgeOutcome, Fault},
};
use crate::TopicPartition;

/// What is known of a broker.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Of the next request in the session; 0 if there is no session.
    pub(super) epoch: i32,
    /// Tells sessions apart.
    pub(super) session: u64,
    /// What the session has.
    pub(super) in_session: BTreeSet<PartitionId>,
    pub(super) lent: BTreeMap<PartitionId, Lent>,
    pub(super) in_flight: Option<InFlight>,
    /// Since when acknowledgements wait to be sent.
    pub(super) acknowledged_at: Option<Instant>,
    /// They are not to wait any longer.
    pub(super) flush: bool,
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    pub(super) told: bool,
}

/// What is lent from one partition of one broker.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) name: TopicPartition,
    pub(super) held: Held,
    pub(super) acknowledged: Acknowledged,
    /// Commits that wait for what is acknowledged and not sent.
    pub(super) commits: Vec<u64>,
}

/// A request that is out.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) api: Api,
    pub(super) closes: bool,
    pub(super) acknowledged: BTreeMap<PartitionId, Sent>,
}

/// Acknowledgements on their way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) name: TopicPartition,
    pub(super) runs: Vec<(Run, i8)>,
    pub(super) commits: Vec<u64>,
}

impl Node {
    pub(super) fn part(&mut self, id: PartitionId, name: &TopicPartition) -> &mut Lent {
        self.lent.entry(id).or_insert_with(|| Lent {
            name: name.clone(),
            held: Held::default(),
            acknowledged: Acknowledged::default(),
            commits: Vec::new(),
        })
    }

    /// Lets go of what timed out.
    pub(super) fn expire(&mut self, id: i32, now: Instant) -> Vec<AcknowledgeOutcome> {
        let expired = |part: &mut Lent| part.held.expire(now);
        let gone = self.let_go(id, expired, ErrorCode::INVALID_RECORD_STATE);
        for AcknowledgeOutcome {
            partition, offsets, ..
        } in &gone
        {
            tracing::warn!(
                %partition,
                ?offsets,
                "the acquisition lock of records timed out before they were acknowledged"
            );
        }
        gone
    }

    /// Lets go of what `which` takes; with what acknowledging it would come to now.
    pub(super) fn let_go(
        &mut self,
        id: i32,
        which: impl Fn(&mut Lent) -> Vec<Run>,
        error: ErrorCode,
    ) -> Vec<AcknowledgeOutcome> {
        let gone = self.lent.values_mut().filter_map(|part| {
            let runs = which(part);
            (!runs.is_empty()).then(|| part.gone(id, runs, error))
        });
        let gone = gone.collect();
        self.lent.retain(|_, part| !part.is_idle());
        gone
    }

    /// Whether there are acknowledgements to send.
    pub(super) fn speaks(&self) -> bool {
        self.lent.values().any(|part| !part.acknowledged.is_empty())
    }

    pub(super) fn take_acknowledged(&mut self) -> BTreeMap<PartitionId, Sent> {
        self.acknowledged_at = None;
        self.flush = false;
        let speaking = self
            .lent
            .iter_mut()
            .filter(|(_, part)| !part.acknowledged.is_empty());
        let sent = speaking.map(|(id, part)| {
            let sent = Sent {
                name: part.name.clone(),
                runs: part.acknowledged.take(),
                commits: std::mem::take(&mut part.commits),
            };
            (*id, sent)
        });
        sent.collect()
    }

    pub(super) fn fetch(&mut self, wanted: BTreeSet<PartitionId>) -> Order {
        if self.epoch == 0 {
            self.in_session.clear();
        }
        let add = wanted.difference(&self.in_session).copied().collect();
        let forget = self.in_session.difference(&wanted).copied().collect();
        self.in_session = wanted;
        self.order(Api::ShareFetch, self.epoch, add, forget)
    }

    pub(super) fn acknowledge(&mut self) -> Order {
        self.order(Api::ShareAcknowledge, self.epoch, Vec::new(), Vec::new())
    }

    pub(super) fn close(&mut self) -> Order {
        self.order(Api::ShareAcknowledge, CLOSE, Vec::new(), Vec::new())
    }

    fn order(
        &mut self,
        api: Api,
        epoch: i32,
        add: Vec<PartitionId>,
        forget: Vec<PartitionId>,
    ) -> Order {
        let sent = self.take_acknowledged();
        let acknowledged = sent.iter().map(|(id, sent)| {
            let runs = sent.runs.iter();
            let runs = runs.map(|&(run, kind)| (run, on_wire(kind)));
            (*id, runs.collect())
        });
        let order = Order {
            api,
            epoch,
            acknowledged: acknowledged.collect(),
            add,
            forget,
        };
        self.in_flight = Some(InFlight {
            api,
            closes: epoch == CLOSE,
            acknowledged: sent,
        });
        order
    }

    /// The session is lost, and with it what was acquired in it: a late word on that would only have the broker refuse
    /// what else is said with it. What can be accepted no longer.
    pub(super) fn lose_session(&mut self, id: i32) -> Vec<AcknowledgeOutcome> {
        self.end_session();
        let all = |part: &mut Lent| part.held.drain();
        self.let_go(id, all, ErrorCode::SHARE_SESSION_NOT_FOUND)
    }

    /// These are acquired anew, so the broker had released them: their locks timed out, which begin before their answers
    /// come. What was said of them since is said of what is over, and must not be taken for a word on what they are now. Those
    /// words, and what acknowledging the others would have come to.
    pub(super) fn acquired_anew(
        &mut self,
        id: i32,
        of: PartitionId,
        runs: &[Run],
    ) -> (Vec<(Run, i8)>, Option<AcknowledgeOutcome>) {
        let Some(part) = self.lent.get_mut(&of) else {
            return (Vec::new(), None);
        };
        let said = runs.iter().flat_map(|run| part.acknowledged.remove(*run));
        let said: Vec<(Run, i8)> = said.collect();
        let held = runs.iter().flat_map(|run| part.held.remove(*run));
        let held: Vec<Run> = held.collect();
        let gone = part.gone(id, held, ErrorCode::INVALID_RECORD_STATE);
        if !self.speaks() {
            self.acknowledged_at = None;
            self.flush = false;
        }
        (said, Some(gone).filter(|gone| !gone.offsets.is_empty()))
    }

    pub(super) fn end_session(&mut self) {
        self.epoch = 0;
        self.in_session.clear();
    }
}

impl Lent {
    /// What acknowledging these comes to.
    fn gone(&self, node: i32, runs: Vec<Run>, error: ErrorCode) -> AcknowledgeOutcome {
        AcknowledgeOutcome {
            node,
            partition: self.name.clone(),
            offsets: runs.into_iter().map(|(first, last)| first..=last).collect(),
            result: Err(Fault::Broker(error)),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.acknowledged.is_empty()
    }
}

/// Of a session's last request.
const CLOSE: i32 = -1;
