//! What a share consumer knows and does next, as a plain state machine: which broker to send a ShareFetch or
//! ShareAcknowledge to and what to put into it, which records are acquired, and what became of acknowledgements.
//!
//! Each broker that leads partitions of the member has one *share session* (KIP-932). Its requests are numbered, so that
//! there is one at a time; acknowledgements ride on the next fetch, or go alone where none is to be made. A session that
//! is lost is opened anew by the next fetch. The broker has released what was acquired in it, so that what waits to be
//! handed out is dropped, and acknowledgements made meanwhile fail and say so.
//!
//! Records are fetched while the application waits for some and none are there: their acquisition locks run from then on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{ErrorCode, Uuid};

use super::{
    acknowledge::{AcknowledgeType, GAP, GIVE_BACK, RENEW, on_wire},
    fetched::{Fetched, Read},
    held::{Run, run_len},
    metrics::Tally,
    node::{Lent, Node, Sent},
    outcome::{AcknowledgeOutcome, Fault},
};
use crate::{Error, TopicPartition, waiting::Waiters};

/// A partition as brokers name it.
pub(super) type PartitionId = (Uuid, i32);

/// What [`Core::plan`] says.
#[derive(Debug)]
pub(super) enum Plan {
    Send(Order),
    /// Nothing before then, or before something happens.
    Wait(Option<Instant>),
    /// There is nothing to do with this broker.
    Gone,
}

/// A request to send.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) api: Api,
    /// Of the share session: 0 opens it, -1 closes it.
    pub(super) epoch: i32,
    pub(super) acknowledged: Vec<(PartitionId, Vec<(Run, i8)>)>,
    /// Partitions that the session has not, for a fetch.
    pub(super) add: Vec<PartitionId>,
    /// Partitions that it has and is to have no longer, for a fetch.
    pub(super) forget: Vec<PartitionId>,
}

impl Order {
    /// How many records are acknowledged. Gaps are none.
    pub(super) fn records(&self) -> u64 {
        let runs = self.acknowledged.iter().flat_map(|(_, runs)| runs);
        let runs = runs.filter(|(_, kind)| *kind != GAP);
        // A broker may have handed over more offsets than there can be.
        runs.map(|(run, _)| run_len(*run))
            .fold(0, u64::saturating_add)
    }

    /// Whether a lock is to begin anew.
    pub(super) fn renews(&self) -> bool {
        let mut runs = self.acknowledged.iter().flat_map(|(_, runs)| runs);
        runs.any(|(_, kind)| *kind == RENEW)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    ShareFetch,
    ShareAcknowledge,
}

/// An answer to either request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) error: ErrorCode,
    /// How long acquired records are locked; none where the answer does not say.
    pub(super) lock_timeout: Option<Duration>,
    pub(super) partitions: Vec<Part>,
}

/// One partition's part of an answer.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: PartitionId,
    /// Of the fetch.
    pub(super) error: ErrorCode,
    /// Of the acknowledgements that were sent along.
    pub(super) acknowledge_error: ErrorCode,
    pub(super) fetched: Option<Fetched>,
}

/// Whom a call concerns.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Brokers that something may have to be sent to.
    pub(super) brokers: BTreeSet<i32>,
    /// There may be something to hand out, or an error to tell.
    pub(super) application: bool,
    pub(super) refresh_metadata: bool,
    /// What became of acknowledgements, for the application's callback.
    pub(super) outcomes: Vec<AcknowledgeOutcome>,
    /// Commits all of whose acknowledgements have an outcome.
    pub(super) commits: Vec<(u64, Vec<AcknowledgeOutcome>)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct CoreConfig {
    /// Whether coming for records accepts those handed out before.
    pub(super) implicit: bool,
    /// Whether no more records are to be acquired than were asked for: of one broker at a time, then.
    pub(super) record_limit: bool,
    pub(super) backoff: Backoff,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Core {
    config: CoreConfig,
    random: fastrand::Rng,
    assignment: BTreeMap<PartitionId, Assigned>,
    nodes: BTreeMap<i32, Node>,
    /// Acquired, and not handed out.
    ready: VecDeque<Fetched>,
    waiters: Waiters,
    /// Until when the application counts as waiting: in between two calls it does not go and come back.
    demand_until: Option<Instant>,
    /// Brokers that a fetch is in flight to.
    fetching: BTreeSet<i32>,
    /// The broker of the latest fetch.
    last_fetched: i32,
    closing: bool,
    lock_timeout: Option<Duration>,
    commits: BTreeMap<u64, Commit>,
    next_commit: u64,
    sessions: u64,
    /// To be told to the application.
    errors: VecDeque<Error>,
    pub(super) tally: Tally,
    pub(super) effects: Effects,
}

#[derive(Debug)]
struct Assigned {
    name: TopicPartition,
    leader: Option<i32>,
    /// Not fetched before, after an error.
    blocked_until: Option<Instant>,
    failures: u32,
    /// The error that the application was told of last, since one fetch succeeded.
    told: Option<ErrorCode>,
    /// How often in a row records came that could not be read.
    unreadable: u32,
}

#[derive(Debug, Default)]
struct Commit {
    /// Parts without an outcome.
    left: usize,
    outcomes: Vec<AcknowledgeOutcome>,
}

impl Core {
    /// `waiters`: the calls that wait for records, none so far.
    pub(super) fn new(config: CoreConfig, waiters: Waiters) -> Self {
        Self {
            random: fastrand::Rng::with_seed(config.seed),
            config,
            assignment: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ready: VecDeque::new(),
            waiters,
            demand_until: None,
            fetching: BTreeSet::new(),
            last_fetched: i32::MIN,
            closing: false,
            lock_timeout: None,
            commits: BTreeMap::new(),
            next_commit: 0,
            sessions: 0,
            errors: VecDeque::new(),
            tally: Tally::default(),
            effects: Effects::default(),
        }
    }

    /// Replaces the assignment; each partition with its name and its leader, if it has one.
    pub(super) fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = (PartitionId, TopicPartition, Option<i32>)>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.assignment);
        for (id, name, leader) in partitions {
            let mut assigned = before.remove(&id).unwrap_or_else(|| Assigned {
                name,
                leader,
                blocked_until: None,
                failures: 0,
                told: None,
                unreadable: 0,
            });
            if assigned.leader != leader {
                assigned.leader = leader;
                // What was wrong was wrong with the other one.
                assigned.blocked_until = None;
            }
            if let Some(leader) = leader {
                self.nodes.entry(leader).or_default();
            }
            self.assignment.insert(id, assigned);
        }
        let ready = std::mem::take(&mut self.ready);
        for fetched in ready {
            self.take_in(fetched, now);
        }
        self.wake_all();
    }

    pub(super) fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.assignment.values().map(|assigned| &assigned.name)
    }

    /// The brokers that a loop is needed for.
    pub(super) fn brokers(&self) -> impl Iterator<Item = i32> {
        self.nodes.keys().copied()
    }

    pub(super) fn lock_timeout(&self) -> Option<Duration> {
        self.lock_timeout
    }

    /// The application comes for records. With implicit acknowledgement it accepts all it has.
    pub(super) fn begin_poll(&mut self, now: Instant) {
        if self.config.implicit {
            self.accept_all(now);
        }
    }

    /// It came, and there were none: more are fetched, now and while it keeps coming.
    pub(super) fn want_records(&mut self, now: Instant) {
        self.demand_until = Some(now + DEMAND);
        if self.wants_records(now) {
            self.wake_all();
        }
    }

    /// A call begins to wait for records; `rings` as [`Waiters`] count them.
    pub(super) fn begin_waiting(&mut self, rings: u64) {
        self.waiters.begin(rings);
    }

    pub(super) fn end_waiting(&mut self, rings: u64) {
        self.waiters.end(rings);
    }

    /// Whether a call waits for records. One that was told of some and does not come is busy with something else.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiters.any()
    }

    /// What to hand out next. What timed out meanwhile is somebody else's by now.
    pub(super) fn next_ready(&mut self, now: Instant) -> Option<Fetched> {
        while let Some(fetched) = self.ready.pop_front() {
            if self.is_good(&fetched, now) {
                // It has something to do now.
                self.demand_until = None;
                return Some(fetched);
            }
        }
        None
    }

    /// The rest of what is being read, if it is still to be handed out.
    pub(super) fn go_on(&mut self, fetched: Fetched, now: Instant) -> Option<Fetched> {
        if !self.is_good(&fetched, now) {
            return None;
        }
        if self.is_outdated(&fetched) {
            self.give_back_rest(fetched, now);
            return None;
        }
        Some(fetched)
    }

    /// Whether the rest of an answer is still this member's.
    fn is_good(&self, fetched: &Fetched, now: Instant) -> bool {
        if fetched.until <= now {
            tracing::warn!(
                partition = %fetched.name,
                "the acquisition lock of records timed out before the application came for them"
            );
        }
        let node = self.nodes.get(&fetched.node);
        let in_session = node.is_some_and(|node| node.epoch > 0 && node.session == fetched.session);
        in_session && fetched.until > now && !self.closing
    }

    /// Whether another broker is known to lead the partition. It may have handed out the same records, and some be accepted
    /// there, without this one's knowing: until it has heard that it leads no longer, it hands out what it remembers.
    fn is_outdated(&self, fetched: &Fetched) -> bool {
        let assigned = self.assignment.get(&fetched.id);
        let leader = assigned.and_then(|of| of.leader);
        leader.is_some_and(|leader| leader != fetched.node)
    }

    /// Keeps what was acquired until the application comes for it, unless nobody should be handed it. Whether it is kept.
    fn take_in(&mut self, fetched: Fetched, now: Instant) -> bool {
        if self.is_outdated(&fetched) {
            self.give_back_rest(fetched, now);
            return false;
        }
        self.ready.push_back(fetched);
        true
    }

    /// If its broker leads the partition after all, the records come again soon.
    fn give_back_rest(&mut self, mut fetched: Fetched, now: Instant) {
        tracing::debug!(
            partition = %fetched.name,
            node = fetched.node,
            "records of a former leader are given back"
        );
        let rest = fetched.give_back();
        self.say(&fetched, rest, now);
        if let Some(node) = self.nodes.get_mut(&fetched.node) {
            node.flush = true;
        }
    }

    pub(super) fn next_error(&mut self) -> Option<Error> {
        self.errors.pop_front()
    }

    pub(super) fn report(&mut self, error: Error) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error);
        }
        self.effects.application = true;
    }

    /// How many records are handed out and not acknowledged.
    pub(super) fn held(&self) -> u64 {
        let lent = self.nodes.values().flat_map(|node| node.lent.values());
        lent.map(|part| part.held.len()).sum()
    }

    /// Records of `fetched` are about to be handed out, and of others it turned out that there is nothing to hand out. False
    /// if they are not this member's any more: meanwhile the share session was lost, or their locks have timed out, and they
    /// come again, to whomever.
    #[must_use]
    pub(super) fn lend(&mut self, fetched: &Fetched, read: &mut Read, now: Instant) -> bool {
        if !self.is_good(fetched, now) {
            return false;
        }
        self.note_read(fetched.id, read, now);
        if let Some(node) = self.nodes.get_mut(&fetched.node) {
            let part = node.part(fetched.id, &fetched.name);
            for run in read.lent.drain(..) {
                part.held.insert(run, fetched.until);
            }
        }
        self.say(fetched, std::mem::take(&mut read.others), now);
        if let Some(error) = read.error.take() {
            self.report(error);
        }
        true
    }

    /// What came of reading an answer's part.
    fn note_read(&mut self, id: PartitionId, read: &Read, now: Instant) {
        if let Some(assigned) = self.assignment.get_mut(&id) {
            if read.faulty {
                // It is released and comes again, unless somebody else gets it: not at the speed of the network.
                assigned.unreadable = assigned.unreadable.saturating_add(1);
                let pause = self
                    .config
                    .backoff
                    .delay(assigned.unreadable, self.random.f64());
                assigned.blocked_until = Some(now + pause);
            } else if !read.lent.is_empty() {
                assigned.unreadable = 0;
            }
        }
        let tally = &mut self.tally;
        tally.records += read.lent.iter().map(|run| run_len(*run)).sum::<u64>();
        tally.redelivered += read.redelivered;
        tally.delivery_count_max = tally.delivery_count_max.max(read.delivery_count_max);
    }

    /// Something is to be said of records that are not handed out.
    fn say(&mut self, fetched: &Fetched, what: Vec<(Run, i8)>, now: Instant) {
        let Some(node) = self
            .nodes
            .get_mut(&fetched.node)
            .filter(|_| !what.is_empty())
        else {
            return;
        };
        let part = node.part(fetched.id, &fetched.name);
        for (run, kind) in what {
            part.acknowledged.push(run, kind);
        }
        node.acknowledged_at.get_or_insert(now);
        self.effects.brokers.insert(fetched.node);
    }

    /// The application says something of one record. False if it is not (any more) this member's to say.
    pub(super) fn acknowledge(
        &mut self,
        node: i32,
        id: PartitionId,
        offset: i64,
        kind: AcknowledgeType,
        now: Instant,
    ) -> bool {
        let Some(of) = self.nodes.get_mut(&node) else {
            return false;
        };
        let Some(part) = of.lent.get_mut(&id) else {
            return false;
        };
        let _timed_out = part.held.expire(now);
        let holds = match kind {
            AcknowledgeType::Renew => part.held.contains(offset),
            _ => part.held.take(offset).is_some(),
        };
        if holds {
            part.acknowledged.push((offset, offset), kind as i8);
            if of.acknowledged_at.is_none() {
                of.acknowledged_at = Some(now);
                self.effects.brokers.insert(node);
            }
        }
        holds
    }

    /// Sends all acknowledgements now. The number of the commit; none if there is nothing to wait for.
    pub(super) fn commit(&mut self, now: Instant) -> Option<u64> {
        if self.config.implicit {
            self.accept_all(now);
        }
        let number = self.next_commit;
        let mut commit = Commit::default();
        for (&id, node) in &mut self.nodes {
            for part in node.lent.values_mut() {
                if !part.acknowledged.is_empty() {
                    part.commits.push(number);
                    commit.left += 1;
                    node.flush = true;
                    self.effects.brokers.insert(id);
                }
            }
            for sent in node
                .in_flight
                .iter_mut()
                .flat_map(|f| f.acknowledged.values_mut())
            {
                sent.commits.push(number);
                commit.left += 1;
            }
        }
        (commit.left > 0).then(|| {
            self.next_commit += 1;
            self.commits.insert(number, commit);
            number
        })
    }

    /// Nobody waits for this commit any more; what it sent goes on.
    pub(super) fn forget_commit(&mut self, number: u64) {
        self.commits.remove(&number);
    }

    /// The subscription ended: what is fetched or lent is given back, once what was acknowledged is said.
    pub(super) fn give_back(&mut self) {
        self.assignment.clear();
        self.ready.clear();
        for (&id, node) in &mut self.nodes {
            let dropped = node.let_go(id, |part| part.held.drain(), ErrorCode::NONE);
            drop(dropped);
            // Closing the session releases them.
            node.flush = true;
        }
        self.wake_all();
    }

    /// Says what is to be said, and gives everything else back by closing the sessions.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.assignment.clear();
        self.ready.clear();
        self.wake_all();
    }

    /// What to send to a broker now. The outcome of an order must be told.
    pub(super) fn plan(&mut self, id: i32, now: Instant) -> Plan {
        let demand = self.wants_records(now);
        let turn = self.turn(now);
        let Some(node) = self.nodes.get_mut(&id) else {
            return Plan::Gone;
        };
        if node.in_flight.is_some() {
            return Plan::Wait(None);
        }
        let late = node.expire(id, now);
        if self.config.implicit {
            self.effects.outcomes.extend(late);
        }
        if node.epoch == 0 && node.speaks() {
            // The session in which those records were acquired is gone, and with it their locks.
            let sent = node.take_acknowledged();
            self.settle(
                id,
                sent,
                |_| Err(Fault::Broker(ErrorCode::SHARE_SESSION_NOT_FOUND)),
                now,
            );
            return self.plan(id, now);
        }
        if self.closing {
            if node.epoch == 0 {
                self.nodes.remove(&id);
                return Plan::Gone;
            }
            return Plan::Send(node.close());
        }
        let wanted: BTreeSet<PartitionId> = self
            .assignment
            .iter()
            .filter(|(_, of)| of.leader == Some(id) && of.blocked_until.is_none_or(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        let led = self.assignment.values().filter(|of| of.leader == Some(id));
        let blocked_until = led
            .clone()
            .filter_map(|of| of.blocked_until)
            .filter(|at| *at > now)
            .min();
        if let Some(at) = node.retry_at.filter(|at| *at > now) {
            return Plan::Wait(Some(at));
        }
        let in_turn = !self.config.record_limit || self.fetching.is_empty() && turn == Some(id);
        let fetches = demand && in_turn && !wanted.is_empty();
        let rides = |of: &PartitionId, part: &Lent| {
            part.acknowledged.is_empty() || wanted.contains(of) && !part.acknowledged.has_renewals()
        };
        if fetches && node.lent.iter().all(|(of, part)| rides(of, part)) {
            self.fetching.insert(id);
            self.last_fetched = id;
            if node.epoch == 0 {
                self.sessions += 1;
                node.session = self.sessions;
            }
            return Plan::Send(node.fetch(wanted));
        }
        let due = node.acknowledged_at.map(|at| at + LINGER);
        if node.speaks() && (fetches || node.flush || due.is_some_and(|due| due <= now)) {
            return Plan::Send(node.acknowledge());
        }
        let has_ready = self.ready.iter().any(|fetched| fetched.node == id);
        if led.count() == 0 && node.lent.is_empty() && !has_ready {
            if node.epoch == 0 {
                self.nodes.remove(&id);
                return Plan::Gone;
            }
            return Plan::Send(node.close());
        }
        let locked_until = node
            .lent
            .values()
            .filter_map(|part| part.held.until())
            .min();
        let times = [due, blocked_until.filter(|_| demand), locked_until];
        Plan::Wait(times.into_iter().flatten().min())
    }

    /// The order could not be carried out, or nobody knows whether it was.
    pub(super) fn handle_failure(&mut self, id: i32, error: &ottla_net::Error, now: Instant) {
        self.fetching.remove(&id);
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let lost = node.lose_session(id);
        let sent = node.in_flight.take().map(|f| f.acknowledged);
        let sent = sent.unwrap_or_default();
        self.tell_lost(lost);
        self.drop_ready(id);
        self.back_off(id, now);
        let fault = Fault::Net(Arc::new(error.clone()));
        self.settle(id, sent, |_| Err(fault.clone()), now);
        if !error.is_retriable() && !error.is_timeout() {
            self.report(error.clone().into());
        }
        self.effects.refresh_metadata = true;
        self.wake_all();
    }

    /// Whether it brought something: records, or news that is heeded in its own time.
    pub(super) fn handle_answer(&mut self, id: i32, mut answer: Answer, now: Instant) -> bool {
        self.fetching.remove(&id);
        let Some(node) = self.nodes.get_mut(&id) else {
            return true;
        };
        let Some(in_flight) = node.in_flight.take() else {
            return true;
        };
        if answer.error.is_err() {
            let lost = node.lose_session(id);
            self.tell_lost(lost);
            self.drop_ready(id);
            let error = answer.error;
            tracing::info!(node = id, %error, "the share session is lost");
            self.back_off(id, now);
            self.settle(
                id,
                in_flight.acknowledged,
                |_| Err(Fault::Broker(error)),
                now,
            );
            let expected = matches!(
                error,
                ErrorCode::SHARE_SESSION_NOT_FOUND | ErrorCode::INVALID_SHARE_SESSION_EPOCH
            );
            if let Some(node) = self.nodes.get_mut(&id)
                && !expected
                && !std::mem::replace(&mut node.told, true)
            {
                self.report(Error::ShareFetch {
                    node: id,
                    partition: None,
                    error,
                });
            }
            self.wake_all();
            return true;
        }
        let mut seen = BTreeSet::new();
        for part in &mut answer.partitions {
            // Not asked for, or handed over already: to be handed out by nobody here.
            if !node.in_session.contains(&part.id) || !seen.insert(part.id) {
                part.fetched = None;
            }
        }
        if in_flight.closes {
            node.end_session();
        } else {
            node.epoch = node.epoch.checked_add(1).unwrap_or(1);
        }
        node.failures = 0;
        node.retry_at = None;
        node.told = false;
        let session = node.session;
        if let Some(timeout) = answer.lock_timeout {
            self.lock_timeout = Some(timeout);
        }
        let mut verdicts: BTreeMap<PartitionId, ErrorCode> = BTreeMap::new();
        let (mut brought, mut fails) = (false, false);
        for part in answer.partitions {
            verdicts.insert(part.id, part.acknowledge_error);
            if in_flight.api == Api::ShareFetch {
                fails |= self.take_error(id, part.id, part.error, now);
            }
            if let Some(fetched) = &part.fetched {
                self.give_up(id, part.id, &fetched.acquired().collect::<Vec<_>>(), now);
            }
            // Without a subscription the session is about to be closed, which gives all back.
            if let Some(mut fetched) = part.fetched
                && !self.assignment.is_empty()
            {
                fetched.session = session;
                brought |= self.take_in(fetched, now);
            }
        }
        self.effects.application |= brought;
        self.settle(
            id,
            in_flight.acknowledged,
            |id| match verdicts.get(&id) {
                Some(&ErrorCode::NONE) => Ok(()),
                Some(&error) => Err(Fault::Broker(error)),
                None => Err(Fault::Unanswered),
            },
            now,
        );
        // The next one's turn, perhaps; and this one's.
        self.wake_all();
        brought || fails
    }

    /// Each fetch that cannot go on as it is costs its partition a pause, and the others nothing. Whether it does.
    fn take_error(&mut self, node: i32, id: PartitionId, error: ErrorCode, now: Instant) -> bool {
        let assigned = self.assignment.get_mut(&id);
        let Some(assigned) = assigned.filter(|of| of.leader == Some(node)) else {
            return false;
        };
        if error.is_ok() {
            assigned.failures = 0;
            assigned.told = None;
            return false;
        }
        assigned.failures = assigned.failures.saturating_add(1);
        let pause = self
            .config
            .backoff
            .delay(assigned.failures, self.random.f64());
        assigned.blocked_until = Some(now + pause);
        tracing::debug!(partition = %assigned.name, node, %error, "cannot be fetched");
        if error.refreshes_metadata() {
            self.effects.refresh_metadata = true;
        } else if !error.is_retriable() && assigned.told.replace(error) != Some(error) {
            let partition = Some(assigned.name.clone());
            self.report(Error::ShareFetch {
                node,
                partition,
                error,
            });
        }
        true
    }

    /// Tells what became of acknowledgements.
    fn settle(
        &mut self,
        id: i32,
        sent: BTreeMap<PartitionId, Sent>,
        verdict: impl Fn(PartitionId) -> Result<(), Fault>,
        now: Instant,
    ) {
        let timeout = self.lock_timeout.unwrap_or(LOCK_TIMEOUT);
        for (of, sent) in sent {
            let verdict = verdict(of);
            let mut part = self
                .nodes
                .get_mut(&id)
                .and_then(|node| node.lent.get_mut(&of));
            let mut said = Vec::new();
            for &(run, kind) in sent.runs.iter().filter(|(_, kind)| *kind != GAP) {
                if kind != GIVE_BACK {
                    said.push(run.0..=run.1);
                }
                let count = run_len(run);
                self.tally
                    .acknowledge(on_wire(kind), count, verdict.is_ok());
                let Some(part) = part.as_mut().filter(|_| kind == RENEW) else {
                    continue;
                };
                for offset in run.0..=run.1 {
                    // It may have been acknowledged meanwhile.
                    if verdict.is_ok() && part.held.contains(offset) {
                        part.held.insert((offset, offset), now + timeout);
                    }
                }
            }
            let outcome = AcknowledgeOutcome {
                node: id,
                partition: sent.name,
                offsets: said,
                result: verdict,
            };
            for number in sent.commits {
                let Some(commit) = self.commits.get_mut(&number) else {
                    continue;
                };
                commit.left -= 1;
                if !outcome.offsets.is_empty() {
                    commit.outcomes.push(outcome.clone());
                }
                if commit.left == 0
                    && let Some(commit) = self.commits.remove(&number)
                {
                    self.effects.commits.push((number, commit.outcomes));
                }
            }
            if !outcome.offsets.is_empty() {
                self.effects.outcomes.push(outcome);
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lent.retain(|_, part| !part.is_idle());
        }
    }

    /// What was acquired before is acquired anew: that is over, with what was said of it and has not been sent.
    fn give_up(&mut self, id: i32, of: PartitionId, runs: &[Run], now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let (said, gone) = node.acquired_anew(id, of, runs);
        self.tell_lost(gone.into_iter().collect());
        let part = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.lent.get_mut(&of));
        let Some(part) = part.filter(|_| !said.is_empty()) else {
            return;
        };
        let commits = match part.acknowledged.is_empty() {
            true => std::mem::take(&mut part.commits),
            false => {
                // They wait for what is still to be sent, too.
                for number in &part.commits {
                    if let Some(commit) = self.commits.get_mut(number) {
                        commit.left += 1;
                    }
                }
                part.commits.clone()
            }
        };
        let sent = Sent {
            name: part.name.clone(),
            runs: said,
            commits,
        };
        let refused = |_| Err(Fault::Broker(ErrorCode::INVALID_RECORD_STATE));
        self.settle(id, BTreeMap::from([(of, sent)]), refused, now);
    }

    /// The application is done with all that it was handed.
    fn accept_all(&mut self, now: Instant) {
        for (&id, node) in &mut self.nodes {
            self.effects.outcomes.extend(node.expire(id, now));
            for part in node.lent.values_mut() {
                for run in part.held.drain() {
                    part.acknowledged.push(run, AcknowledgeType::Accept as i8);
                    if node.acknowledged_at.is_none() {
                        node.acknowledged_at = Some(now);
                        self.effects.brokers.insert(id);
                    }
                }
            }
        }
    }

    /// Who acknowledges each record is told when it does.
    fn tell_lost(&mut self, lost: Vec<AcknowledgeOutcome>) {
        if self.config.implicit {
            self.effects.outcomes.extend(lost);
        }
    }

    /// What was fetched in a session that is lost is released by the broker.
    fn drop_ready(&mut self, id: i32) {
        self.ready.retain(|fetched| fetched.node != id);
    }

    fn back_off(&mut self, id: i32, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.failures = node.failures.saturating_add(1);
            let pause = self.config.backoff.delay(node.failures, self.random.f64());
            node.retry_at = Some(now + pause);
        }
    }

    /// Whose turn it is to be fetched from, where it is one broker's at a time.
    fn turn(&self, now: Instant) -> Option<i32> {
        if !self.config.record_limit {
            return None;
        }
        let mut able: Vec<i32> = self
            .assignment
            .values()
            .filter(|of| of.blocked_until.is_none_or(|at| at <= now))
            .filter_map(|of| of.leader)
            .filter(|id| {
                let node = self.nodes.get(id);
                node.is_some_and(|node| node.retry_at.is_none_or(|at| at <= now))
            })
            .collect();
        able.sort_unstable();
        let after = able.iter().find(|id| **id > self.last_fetched);
        after.or(able.first()).copied()
    }

    fn wants_records(&self, now: Instant) -> bool {
        let waited_for = self.waiters.any() || self.demand_until.is_some_and(|until| until > now);
        waited_for && self.ready.is_empty() && !self.closing
    }

    fn wake_all(&mut self) {
        self.effects.brokers.extend(self.nodes.keys());
    }
}

/// How long acknowledgements wait for a fetch to ride on, at the most.
const LINGER: Duration = Duration::from_millis(500);

/// How long after a call for records the next one is expected.
const DEMAND: Duration = Duration::from_millis(500);

/// `group.share.record.lock.duration.ms`, where a broker does not say.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Errors that wait to be told. The first say what is wrong.
const ERRORS_MAX: usize = 32;
