//! Sends commits, one at a time, to the coordinator; and commits by itself every
//! `auto.commit.interval.ms` what the application is done with.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_net::{Backoff, CoordinatorKind, GroupMetadata, Lane, Metadata, Sent};
use ottla_wire::{
    ErrorCode, Str,
    messages::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
};
use tokio::sync::oneshot;
use tracing::Span;

use super::{Shared, group::Group, now};
use crate::{
    CommitOutcome, CommittedOffset, Error, TopicPartition,
    commit_listener::{self, Report},
    core::{LeaseId, Position},
    group::{
        commit::{CommitAnswer, CommitStep, Committer, Offsets, Outcome, Ticket},
        membership::{CommitAs, Identity},
    },
    metrics::Counters,
    spans,
};

/// The committer, and who waits for what it does.
#[derive(Debug)]
pub(crate) struct Commits {
    committer: Committer,
    waiters: HashMap<Ticket, Waiter>,
    /// Nobody sends commits any more.
    ended: bool,
    /// How many automatic commits failed.
    failed_by_itself: u64,
    /// What the application's listener has not been told yet, if it has one.
    outcomes: Vec<CommitOutcome>,
}

/// Who asked for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitBy {
    /// Automatic commit.
    Itself,
    Application,
    /// The application, for what it read in this assignment of a partition: refused if a group that it subscribes in has taken
    /// that away since.
    Reader(u64),
    /// The application, through the stream that has this lease: refused if that has its partition no more.
    Stream(LeaseId),
}

#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Outcome>,
    wants: Wanted,
    since: Instant,
    span: Span,
    report: Option<Report>,
}

/// What is to be taken back if it fails.
#[derive(Debug)]
enum Wanted {
    /// Nothing was to be written: that all that came before is settled is awaited.
    Settled,
    /// Automatic commit holds that it has written this.
    ByItself(Vec<(TopicPartition, i64)>),
    /// Automatic commit stays behind of this.
    ByHand(Vec<(TopicPartition, i64)>),
}

impl Commits {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            committer: Committer::new(backoff, fastrand::u64(..)),
            waiters: HashMap::new(),
            ended: false,
            failed_by_itself: 0,
            outcomes: Vec::new(),
        }
    }

    fn settle(&mut self, shared: &Arc<Shared>) {
        for (ticket, outcome) in self.committer.take_settled() {
            let Some(waiter) = self.waiters.remove(&ticket) else {
                continue;
            };
            if !matches!(waiter.wants, Wanted::Settled) {
                let counters = &shared.counters;
                match outcome {
                    Outcome::Committed => {
                        let latency = now().saturating_duration_since(waiter.since);
                        counters.commit_latency.add_time(latency);
                    }
                    Outcome::Refused { .. } | Outcome::Expired { .. } => {
                        Counters::add(&counters.commit_failures, 1);
                    }
                }
                spans::settled(&waiter.span, &outcome);
            }
            if outcome != Outcome::Committed {
                // Here and not by who waits: that one may have gone.
                self.take_back(shared, &waiter.wants, &outcome);
            }
            let outcome_told =
                |report: Report| report.outcome(&shared.config, Some(outcome.clone()));
            self.outcomes.extend(waiter.report.map(outcome_told));
            // Who does not wait any more does not care.
            let _ = waiter.sender.send(outcome);
        }
    }

    fn take_back(&mut self, shared: &Arc<Shared>, failed: &Wanted, outcome: &Outcome) {
        match failed {
            Wanted::Settled => {}
            Wanted::ByItself(offsets) => {
                self.failed_by_itself += 1;
                shared.core(|core| {
                    for (name, offset) in offsets {
                        core.auto_commit_failed(name, *offset);
                    }
                });
            }
            Wanted::ByHand(offsets) => shared.core(|core| {
                for (name, offset) in offsets {
                    core.commit_failed(name, *offset, outcome.may_have_stored(name));
                }
            }),
        }
    }
}

impl Shared {
    /// Queues a commit; it is tried until the deadline, whether or not anybody waits for the outcome. What is committed is
    /// looked up and queued in one go: nobody else's commit comes in between, which would then be the older one of the two
    /// and land last. Once the consumer has ended there is no outcome.
    pub(crate) fn queue_commit(
        self: &Arc<Self>,
        offsets: impl FnOnce() -> Offsets,
        deadline: Instant,
        by: CommitBy,
    ) -> oneshot::Receiver<Outcome> {
        let mut commits = self.commits.lock();
        let offsets = offsets();
        self.queue(&mut commits, offsets, deadline, by)
    }

    fn queue(
        self: &Arc<Self>,
        commits: &mut Commits,
        offsets: Offsets,
        deadline: Instant,
        by: CommitBy,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        if commits.ended {
            return receiver;
        }
        let span = self.spans.commit(&offsets);
        let holds = |group: &Group| match by {
            CommitBy::Stream(lease) => self.core(|core| core.lease_holds(lease)),
            CommitBy::Reader(since) => {
                group.subscription.is_none()
                    || self.core(|core| {
                        let mut names = offsets.keys();
                        names.all(|name| core.is_assigned_since(name, since))
                    })
            }
            CommitBy::Itself | CommitBy::Application => true,
        };
        let committer = match &self.group {
            Some(group) => {
                // Under the group's lock: no partition comes back, in another generation, in between.
                let group = group.lock();
                match holds(&group) {
                    true => group.membership.committer(),
                    false => Err(ErrorCode::ILLEGAL_GENERATION),
                }
            }
            None => Ok(Identity::nobody()),
        };
        let report = Report::of(&self.config, &offsets, by == CommitBy::Itself);
        let numbers = offsets.iter().map(|(name, o)| (name.clone(), o.offset));
        let wants = match by {
            CommitBy::Itself => Wanted::ByItself(numbers.collect()),
            CommitBy::Application | CommitBy::Reader(_) | CommitBy::Stream(_) => {
                Wanted::ByHand(numbers.collect())
            }
        };
        let identity = match committer {
            Ok(identity) => identity,
            Err(error) => {
                Counters::add(&self.counters.commit_failures, 1);
                let refused = Outcome::Refused {
                    partition: None,
                    error,
                };
                spans::settled(&span, &refused);
                // It may have been taken for about to be written.
                if let Wanted::ByItself(offsets) | Wanted::ByHand(offsets) = &wants {
                    self.core(|core| {
                        for (name, offset) in offsets {
                            core.auto_commit_failed(name, *offset);
                        }
                    });
                }
                let refusal = |report: Report| report.outcome(&self.config, Some(refused.clone()));
                commits.outcomes.extend(report.map(refusal));
                // The receiver is still here.
                let _ = sender.send(refused);
                self.committing.notify_one();
                return receiver;
            }
        };
        if let Wanted::ByHand(offsets) = &wants {
            self.core(|core| core.note_commit(offsets.iter().map(|(name, o)| (name, *o))));
        }
        let ticket = commits.committer.commit(identity, offsets, deadline);
        let waiter = Waiter {
            sender,
            wants,
            since: now(),
            span,
            report,
        };
        commits.waiters.insert(ticket, waiter);
        commits.settle(self);
        self.committing.notify_one();
        receiver
    }

    /// Tells the application's listener what became of commits. Called with no lock held: it may do anything.
    fn tell_of_commits(&self) {
        let Some(listener) = &self.config.commit_listener else {
            return;
        };
        let outcomes = std::mem::take(&mut self.commits.lock().outcomes);
        commit_listener::tell(listener.as_ref(), &outcomes);
    }

    /// Who this consumer is as long as `lease` has its partition: what is written on its behalf is refused once another
    /// member may have it. None if it has it no more.
    pub(crate) fn metadata_of_lease(self: &Arc<Self>, lease: LeaseId) -> Option<GroupMetadata> {
        // Not given up in between.
        let group = self.group.as_ref()?.lock();
        let holds = self.core(|core| core.lease_holds(lease));
        let identity = group.membership.committer().ok().filter(|_| holds)?;
        self.metadata_of(identity)
    }

    pub(crate) fn metadata_of(&self, identity: Identity) -> Option<GroupMetadata> {
        let member = !identity.member_id.is_empty();
        let instance_id = self.config.group_instance_id.clone();
        Some(GroupMetadata {
            group_id: self.config.group_id.clone()?.into(),
            generation_id: identity.generation,
            member_id: identity.member_id,
            // Who is no member has none: it would be fenced by the one who is.
            group_instance_id: instance_id.filter(|_| member).map(Into::into),
        })
    }

    /// The positions automatic commit should write now. `done`: the application is done with all it was
    /// handed.
    pub(crate) fn processed(self: &Arc<Self>, done: bool) -> Offsets {
        let reader = self.reader.lock();
        let done = done || reader.waiters.any();
        let offsets = self.core(|core| {
            reader.sync(core, done);
            if done {
                core.mark_processed();
            }
            core.take_processed()
        });
        offsets
            .into_iter()
            .map(|(name, position, metadata)| {
                let committed = CommittedOffset {
                    metadata,
                    ..committed(position)
                };
                (name, committed)
            })
            .collect()
    }

    /// Before partitions are given up: with automatic commit, commits what the application is done with (`done`: that is
    /// all it was handed); then waits until all commits are settled that anybody has begun. False if time ran out.
    pub(crate) async fn finish_commits(self: &Arc<Self>, done: bool, deadline: Instant) -> bool {
        let by_itself = self.config.enable_auto_commit && self.group.is_some();
        let failed = || self.commits.lock().failed_by_itself;
        let before = failed();
        let mut in_time = true;
        if by_itself {
            let outcome = self.commit_processed(done, deadline).await;
            in_time = !matches!(outcome, Some(Outcome::Expired { .. }));
            if matches!(outcome, Some(Outcome::Refused { .. })) {
                return self.settled(deadline).await;
            }
        }
        in_time &= self.settled(deadline).await;
        if by_itself && in_time && failed() != before {
            // One that the timer had begun, and that this one relied on.
            let outcome = self.commit_processed(false, deadline).await;
            in_time = !matches!(outcome, Some(Outcome::Expired { .. }));
        }
        in_time
    }

    /// What the cluster knows of these is to be known when the coordinator is asked again.
    fn ask_about<'a>(
        &self,
        unknown: impl Iterator<Item = &'a TopicPartition>,
        metadata: &Metadata,
    ) {
        let topics: BTreeSet<&Str> = unknown.map(|name| &name.topic).collect();
        if topics.is_empty() {
            return;
        }
        // To ask would be to create them.
        if !self.cluster.config().allow_auto_create_topics {
            let new = topics
                .iter()
                .filter(|topic| metadata.topic(topic).is_none());
            new.for_each(|topic| self.cluster.prefetch_topic(topic));
        }
        self.cluster.refresh_soon();
    }

    /// Waits until all commits are settled that were queued before. False if time ran out.
    pub(crate) async fn settled(self: &Arc<Self>, deadline: Instant) -> bool {
        let receiver = {
            let mut commits = self.commits.lock();
            if commits.ended || self.group.is_none() {
                return true;
            }
            let (sender, receiver) = oneshot::channel();
            let waiter = Waiter {
                sender,
                wants: Wanted::Settled,
                since: now(),
                span: Span::none(),
                report: None,
            };
            let ticket = commits.committer.barrier(deadline);
            commits.waiters.insert(ticket, waiter);
            commits.settle(self);
            receiver
        };
        self.committing.notify_one();
        !matches!(receiver.await, Ok(Outcome::Expired { .. }))
    }

    /// Commits what the application is done with, if it is not committed or about to be, and waits for the outcome. `done`:
    /// that is all it was handed. None if there is nothing to commit, or the consumer ended meanwhile.
    async fn commit_processed(self: &Arc<Self>, done: bool, deadline: Instant) -> Option<Outcome> {
        let outcome = {
            let mut commits = self.commits.lock();
            let offsets = self.processed(done);
            if offsets.is_empty() {
                return None;
            }
            self.queue(&mut commits, offsets, deadline, CommitBy::Itself)
        };
        let outcome = outcome.await;
        if outcome != Ok(Outcome::Committed) {
            tracing::warn!(
                group = self.config.group_id,
                ?outcome,
                "automatic commit failed: records may be delivered again after a rebalance"
            );
        }
        outcome.ok()
    }
}

pub(crate) fn committed(position: Position) -> CommittedOffset {
    CommittedOffset {
        offset: position.offset,
        leader_epoch: position.leader_epoch,
        metadata: Str::new(),
    }
}

/// Whoever waits for a commit learns that nobody sends it any more, however the task ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut commits = self.0.commits.lock();
        commits.ended = true;
        for waiter in std::mem::take(&mut commits.waiters).into_values() {
            if !matches!(waiter.wants, Wanted::Settled) {
                Counters::add(&self.0.counters.commit_failures, 1);
                spans::fail(&waiter.span, "CLOSED", Error::Closed);
            }
            let outcome = |report: Report| report.outcome(&self.0.config, None);
            commits.outcomes.extend(waiter.report.map(outcome));
        }
        drop(commits);
        self.0.tell_of_commits();
    }
}

pub(super) fn run(shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    // Also of a task that ends before it has begun.
    let ending = Ending(shared.clone());
    async move {
        let _ending = ending;
        send_in_order(shared).await;
    }
}

async fn send_in_order(shared: Arc<Shared>) {
    if shared.config.enable_auto_commit {
        shared.spawn(commit_by_itself(shared.clone()));
    }
    let mut request = None;
    loop {
        let step = {
            let mut commits = shared.commits.lock();
            let step = commits.committer.poll(now());
            commits.settle(&shared);
            step
        };
        shared.tell_of_commits();
        let until = match step {
            CommitStep::Send { identity, offsets } => {
                let (commit_as, joining) = match &shared.group {
                    None => (CommitAs::Member(identity), false),
                    Some(group) => {
                        let membership = &group.lock().membership;
                        (
                            membership.commit_as(&identity, offsets.keys()),
                            membership.is_joining(),
                        )
                    }
                };
                // Where it may, a member commits while its join waits at the coordinator.
                let lane = if joining {
                    Lane::Control
                } else {
                    Lane::Coordination
                };
                match commit_as {
                    CommitAs::Member(identity) => {
                        request = Some(Box::pin(send(shared.clone(), lane, identity, offsets)));
                    }
                    CommitAs::Later => shared.commits.lock().committer.put_off(now()),
                    CommitAs::Nobody(error) => {
                        let mut commits = shared.commits.lock();
                        commits.committer.refuse(error);
                        commits.settle(&shared);
                    }
                }
                continue;
            }
            CommitStep::Wait(until) => until,
        };
        let answer = async {
            match &mut request {
                Some(request) => request.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (sent_as, answer) = answer => {
                request = None;
                let told = {
                    let mut commits = shared.commits.lock();
                    let later = |error| {
                        let group = shared.group.as_ref();
                        group.is_some_and(|g| g.lock().membership.may_commit_later(&sent_as, error))
                    };
                    let metadata = shared.cluster.metadata();
                    let gone = |name: &TopicPartition| is_gone(&metadata, name);
                    let told = commits.committer.handle_answer(answer, later, gone, now());
                    commits.settle(&shared);
                    shared.ask_about(commits.committer.unknown(), &metadata);
                    told
                };
                if let Some(error) = told && let Some(group) = &shared.group {
                    group.lock().membership.handle_commit_error(error, &sent_as, now());
                    shared.membership.notify_one();
                }
            }
            () = super::wait(&shared.committing, until) => {}
        }
    }
}

/// Whether the cluster knows that there is no such partition.
fn is_gone(metadata: &Metadata, name: &TopicPartition) -> bool {
    metadata.topic(&name.topic).is_some_and(|topic| {
        topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            || topic.is_usable() && topic.partition(name.partition).is_none()
    })
}

async fn commit_by_itself(shared: Arc<Shared>) {
    let interval = shared.config.auto_commit_interval.max(INTERVAL_MIN);
    loop {
        tokio::time::sleep(interval).await;
        let deadline = now() + shared.config.default_api_timeout;
        shared.commit_processed(false, deadline).await;
    }
}

/// Sends one commit. Returns on whose behalf, and the answer.
async fn send(
    shared: Arc<Shared>,
    lane: Lane,
    identity: Identity,
    offsets: Offsets,
) -> (Identity, CommitAnswer) {
    let sent_as = identity.clone();
    let Some(group) = shared.config.group_id.clone() else {
        return (sent_as, CommitAnswer::None { sent: false });
    };
    match try_send(&shared, &group, lane, identity, offsets).await {
        Ok(answer) => (sent_as, answer),
        Err(error) => {
            tracing::warn!(%group, %error, "commit not answered; trying again");
            (
                sent_as,
                CommitAnswer::None {
                    sent: error.sent() == Sent::Maybe,
                },
            )
        }
    }
}

async fn try_send(
    shared: &Shared,
    group: &str,
    lane: Lane,
    identity: Identity,
    offsets: Offsets,
) -> Result<CommitAnswer, ottla_net::Error> {
    let deadline = ottla_net::Instant::now() + shared.config.request_timeout;
    let kind = CoordinatorKind::Group;
    let node = shared.cluster.coordinator(kind, group, deadline).await?;
    let connection = match shared.cluster.connection(node, lane, deadline).await {
        Ok(connection) => connection,
        Err(error) => {
            shared.cluster.forget_coordinator(kind, group, node);
            return Err(error);
        }
    };
    let version = connection.version::<OffsetCommitRequest>(LAST_BY_NAME)?;
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (TopicPartition { topic, partition }, offset) in offsets {
        // Sorted: the partitions of a topic follow each other.
        if topics.last().is_none_or(|last| last.name != topic) {
            topics.push(OffsetCommitRequestTopic {
                name: topic,
                ..Default::default()
            });
        }
        if let Some(last) = topics.last_mut() {
            last.partitions.push(OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(offset.metadata),
                ..Default::default()
            });
        }
    }
    let member = !identity.member_id.is_empty();
    let request = OffsetCommitRequest {
        group_id: group.to_owned().into(),
        generation_id_or_member_epoch: identity.generation,
        member_id: identity.member_id,
        group_instance_id: shared
            .config
            .group_instance_id
            .clone()
            .filter(|_| member && version >= 7)
            .map(Into::into),
        topics,
        ..Default::default()
    };
    let deadline = ottla_net::Instant::now() + shared.config.request_timeout;
    let reply = connection.submit(&request, version, deadline)?;
    let response = match reply.await {
        Ok(response) => response,
        Err(error) => {
            shared.cluster.forget_coordinator(kind, group, node);
            return Err(error);
        }
    };
    let mut errors = Vec::new();
    for topic in response.topics {
        for partition in topic.partitions {
            let error = partition.error_code;
            if error.rediscovers_coordinator() {
                shared.cluster.forget_coordinator(kind, group, node);
            }
            let name = TopicPartition::new(topic.name.clone(), partition.partition_index);
            errors.push((name, error));
        }
    }
    Ok(CommitAnswer::Partitions(errors))
}

/// Version 10 names topics by id only.
const LAST_BY_NAME: i16 = 9;

/// An interval of 0 commits often, not always.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
