//! Drives the membership: sends what [`Membership`] asks for on the coordination lane, moves partitions in and
//! out of the core, and looks after the application's presence.
//!
//! Every request is a task of its own, so that heartbeats go on while partitions are being given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ottla_net::{Backoff, CoordinatorKind, Error as NetError, Lane, Metadata};
use ottla_wire::{
    Bytes, ErrorCode, Request, Str, Uuid,
    messages::{
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

use super::{Shared, consumer_group, now, unassign_all};
use crate::{
    ConsumerConfig, Error, GroupProtocol, Offset, TopicPartition, TopicPattern,
    assignor::{GroupTopics, Member, RebalanceProtocol},
    core::{Core, StreamEnd},
    group::{
        classic::{Classic, ClassicConfig, Joined},
        consumer::{Beaten, ConsumerMembership, ConsumerMembershipConfig},
        membership::{Choosing, Membership, Step},
        protocol::Subscription,
    },
    listener::News,
    metrics::Counters,
    payload::Payload,
};

/// The membership and what it is for.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) membership: Membership,
    /// For [`Group::choose`].
    classic: ClassicConfig,
    consumer: ConsumerMembershipConfig,
    /// Whether a pattern may match the cluster's own topics.
    internal: bool,
    /// What the application asked for; none: nothing.
    pub(crate) subscription: Option<Subscribed>,
    /// The topics that is, in order.
    pub(crate) topics: Vec<Str>,
    /// What was distributed, if this member leads the group.
    led: Option<Told>,
    /// Whether the racks of replicas changing is news: for a consumer that has a rack, as in Java.
    heeds_racks: bool,
}

impl Group {
    pub(super) fn new(config: &ConsumerConfig, backoff: Backoff) -> Option<Self> {
        config.group_id.as_ref()?;
        let classic = ClassicConfig {
            is_static: config.group_instance_id.is_some(),
            protocol: RebalanceProtocol::of(&config.assignors),
            heartbeat_interval: config.heartbeat_interval,
            max_poll_interval: config.max_poll_interval,
            backoff,
            seed: fastrand::u64(..),
        };
        let consumer = ConsumerMembershipConfig {
            member_id: Uuid(fastrand::u128(..).to_be_bytes()).to_string().into(),
            is_static: classic.is_static,
            max_poll_interval: classic.max_poll_interval,
            backoff,
            seed: classic.seed,
        };
        let seed = classic.seed;
        let mut group = Self {
            membership: Membership::Choosing(Choosing::new(backoff, seed)),
            classic,
            consumer,
            internal: !config.exclude_internal_topics,
            subscription: None,
            topics: Vec::new(),
            led: None,
            heeds_racks: !config.client_rack.is_empty(),
        };
        match config.group_protocol {
            GroupProtocol::Classic => group.choose(false),
            GroupProtocol::Consumer => group.choose(true),
            GroupProtocol::Auto => {}
        }
        Some(group)
    }

    /// The protocol is known now: the consumer protocol, or the classic one.
    fn choose(&mut self, consumer: bool) {
        self.membership = match consumer {
            true => Membership::Consumer(ConsumerMembership::new(self.consumer.clone(), now())),
            false => Membership::Classic(Classic::new(self.classic.clone())),
        };
    }

    /// There is a subscription by pattern. Whether the client is to look for topics that match: the brokers match it
    /// where they can.
    pub(crate) fn subscribe_pattern(&mut self, pattern: TopicPattern) -> bool {
        let by_brokers = match &mut self.membership {
            // Once the protocol is known.
            Membership::Choosing(_) => {
                self.membership.subscribe([], now());
                self.subscription = Some(Subscribed::Pattern(pattern));
                return false;
            }
            Membership::Classic(_) => None,
            Membership::Consumer(consumer) => pattern.for_brokers(self.internal).map(|text| {
                consumer.subscribe_pattern(text.into(), now());
            }),
        };
        let matches_itself = by_brokers.is_none();
        self.subscription = Some(match matches_itself {
            true => Subscribed::Pattern(pattern),
            false => Subscribed::ByBrokers(pattern),
        });
        matches_itself
    }

    /// Whether there is a subscription by a pattern that the brokers match.
    pub(crate) fn is_by_brokers(&self) -> bool {
        matches!(self.subscription, Some(Subscribed::ByBrokers(_)))
    }

    /// A subscription by pattern is for what there is now. Returns its topics, if they are others than before.
    pub(super) fn topics_matched(
        &mut self,
        metadata: &Metadata,
        internal: bool,
    ) -> Option<Vec<Str>> {
        let Some(Subscribed::Pattern(pattern)) = &self.subscription else {
            return None;
        };
        if self.membership.is_choosing() || !metadata.has_all_topics() {
            return None; // It knows by name what was subscribed to before.
        }
        let mut topics: Vec<Str> = metadata
            .topics()
            .filter(|topic| topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            .filter(|topic| (internal || !topic.is_internal) && pattern.matches(&topic.name))
            .map(|topic| topic.name.clone())
            .collect();
        topics.sort_unstable();
        if topics == self.topics {
            return None;
        }
        tracing::info!(%pattern, ?topics, "the pattern of the subscription matches");
        self.topics.clone_from(&topics);
        if topics.is_empty() {
            // Java's assignors take a member without topics for one that wants what the first other one does.
            self.membership
                .lose_and_leave("the pattern matches no topic");
        } else {
            self.membership.subscribe(topics.iter().cloned(), now());
        }
        Some(topics)
    }

    /// Whether what this member distributed as the leader is not what there is any more.
    pub(super) fn topics_changed(&mut self, metadata: &Metadata) -> bool {
        let Some(led) = &self.led else { return false };
        let changed = *led != told(metadata, led.keys(), self.heeds_racks);
        if changed && let Some(classic) = self.membership.classic() {
            classic.topics_changed(now());
        }
        changed
    }
}

/// What an application subscribes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subscribed {
    Names,
    /// Matched by this client.
    Pattern(TopicPattern),
    /// Matched by the brokers.
    ByBrokers(TopicPattern),
}

/// What is to be distributed, by topic; those that do not exist (yet) included: for each partition the racks of
/// its replicas.
type Told = BTreeMap<Str, Vec<Vec<Str>>>;

fn told<'a>(metadata: &Metadata, topics: impl Iterator<Item = &'a Str>, racks: bool) -> Told {
    let rack_of = |node: &i32| metadata.broker(*node)?.rack.clone();
    let partitions = |topic: &str| {
        let topic = metadata.topic(topic);
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        let racks_of = |partition: &ottla_net::Partition| match racks {
            true => partition.replicas.iter().filter_map(rack_of).collect(),
            false => Vec::new(),
        };
        partitions.map(racks_of).collect()
    };
    topics
        .map(|topic| (topic.clone(), partitions(topic)))
        .collect()
}

enum Event {
    Joined(u64, Result<Joined, NetError>),
    Led {
        attempt: u64,
        assignor: Str,
        assignments: Vec<(Str, Vec<TopicPartition>)>,
        led: Told,
    },
    Synced(u64, Result<Result<Bytes, ErrorCode>, NetError>),
    Heartbeat(u64, Result<ErrorCode, NetError>),
    /// Whether the coordinator speaks the consumer protocol.
    Chosen(u64, Result<bool, NetError>),
    Beaten(u64, Result<Beaten, NetError>),
    Named(Vec<(Uuid, Str)>),
    /// The listener was told of partitions that are lost.
    Told,
    /// The listener was told of new partitions, which are held under this number.
    Introduced(u64, Vec<TopicPartition>),
    /// What was to be committed before partitions are given up is, or will not be.
    Committed(u64),
}

/// Partitions are being given up.
struct Revocation {
    number: u64,
    partitions: Vec<TopicPartition>,
    /// Whether these are all there are, and nothing at all is handed out meanwhile.
    all: bool,
    /// How often the application had come when it began.
    polls: u64,
    committing: bool,
}

pub(super) async fn run(shared: Arc<Shared>) {
    let Some(group) = &shared.group else { return };
    let mut requests: JoinSet<Event> = JoinSet::new();
    // Who leaves is to be heard even if it closes right after.
    let mut farewells: JoinSet<()> = JoinSet::new();
    // The heartbeat of the consumer protocol that was sent last.
    let mut beating: Option<AbortHandle> = None;
    let mut revocation: Option<Revocation> = None;
    // Numbers whatever has partitions held.
    let mut numbers = 0;
    let (mut polls, mut waited) = (0, false);
    let mut leaving = false;
    let mut joining_since = None;
    let counters = &shared.counters;
    loop {
        if shared.is_leaving() && !leaving {
            leaving = true;
            // What is under way is of no use; leaving goes over a lane of its own.
            requests.abort_all();
            group.lock().membership.leave("the consumer is closed");
        }
        if shared.core(|core| core.is_split()) {
            let stalled = shared.core(|core| core.stalled_since(now()));
            // What is overdue is left to the deadline that was set for it; to tell it now would be to say it came.
            let overdue =
                stalled.is_some_and(|since| since + shared.config.max_poll_interval <= now());
            if !overdue || waited {
                waited = stalled.is_none();
                let mut group = group.lock();
                group
                    .membership
                    .application_polls(waited, stalled.unwrap_or_else(now));
            }
        } else {
            let reader = shared.reader.lock();
            let waiting = reader.waiting > 0;
            if reader.polls != polls || waiting || waited {
                polls = reader.polls;
                waited = waiting;
                let mut group = group.lock();
                group.membership.application_polls(waiting, now());
            }
        }
        let until = loop {
            let step = group.lock().membership.poll(now());
            match step {
                Step::Wait(until) => break until,
                Step::Revoke { partitions, all } => {
                    joining_since.get_or_insert_with(now);
                    numbers += 1;
                    end_streams(&shared, group, &partitions, StreamEnd::Revoked);
                    let mut reader = shared.reader.lock();
                    reader.attention = true;
                    if all {
                        reader.hold = true;
                    } else {
                        shared.core(|core| {
                            for partition in &partitions {
                                reader.give_back(partition, core);
                                core.hold(partition, Some(numbers));
                            }
                        });
                    }
                    revocation = Some(Revocation {
                        number: numbers,
                        partitions,
                        all,
                        polls: reader.polls,
                        committing: false,
                    });
                }
                Step::Lose(partitions) => {
                    Counters::add(&counters.partitions_lost, partitions.len());
                    tracing::info!(
                        group = shared.config.group_id,
                        ?partitions,
                        "partitions lost"
                    );
                    revocation = None;
                    end_streams(&shared, group, &partitions, StreamEnd::Lost);
                    give_up(&shared, group, None, |_| true);
                    release(&shared);
                    shared.follow_assigned();
                    let shared = shared.clone();
                    requests.spawn(async move {
                        shared.tell_listener(News::Lost, partitions).await;
                        Event::Told
                    });
                }
                Step::Drop => {
                    revocation = None;
                    give_up(&shared, group, None, |_| true);
                    release(&shared);
                }
                Step::Adopt(partitions) => {
                    numbers += 1;
                    Counters::add(&counters.rebalances, 1);
                    Counters::add(&counters.partitions_assigned, partitions.len());
                    if let Some(since) = joining_since.take() {
                        Counters::add_time(&counters.rebalance_micros, now() - since);
                    }
                    let shared = shared.clone();
                    let introduce = adopt(&shared, partitions.clone(), numbers);
                    shared.follow_assigned();
                    if introduce {
                        let number = numbers;
                        requests.spawn(async move {
                            shared
                                .tell_listener(News::Assigned, partitions.clone())
                                .await;
                            Event::Introduced(number, partitions)
                        });
                    }
                }
                Step::Fail(error) if shared.falls_back(error) => {}
                Step::Fail(error) => {
                    let group = shared.config.group_id.clone().unwrap_or_default().into();
                    shared.fail(Error::Group { group, error });
                }
                Step::Rediscover => rediscover(&shared).await,
                step if step.is_farewell() => {
                    // What is not sent yet would come after it, as if it had joined again.
                    if let Some(beating) = beating.take() {
                        beating.abort();
                    }
                    farewells.spawn(say_goodbye(shared.clone(), step));
                }
                step => {
                    let joins = match &step {
                        Step::Join { .. } => true,
                        Step::Beat(beat) => beat.epoch == 0,
                        _ => false,
                    };
                    if joins {
                        joining_since.get_or_insert_with(now);
                    }
                    let beats = matches!(step, Step::Beat(_));
                    let request = begin(&shared, step, &mut requests);
                    if beats {
                        beating = request;
                    }
                }
            }
        };
        if let Some(revocation) = revocation
            .as_mut()
            .filter(|revocation| !revocation.committing)
        {
            let (number, all) = (revocation.number, revocation.all);
            let reader = shared.reader.lock();
            let came = reader.waiting > 0 || reader.polls != revocation.polls;
            drop(reader);
            let done = shared.core(|core| match core.is_split() {
                true => core.leases_gone(Some(&revocation.partitions)),
                false => came || !all && core.is_done_with(&revocation.partitions),
            });
            if done {
                revocation.committing = true;
                let (shared, partitions) = (shared.clone(), revocation.partitions.clone());
                requests.spawn(async move {
                    // It came back: it is done with all it has of them.
                    if !all {
                        shared.core(|core| core.mark_processed_of(&partitions));
                    }
                    if shared.config.enable_auto_commit {
                        let deadline = now() + shared.config.request_timeout;
                        shared.commit_processed(all, deadline).await;
                    }
                    shared.tell_listener(News::Revoked, partitions).await;
                    Event::Committed(number)
                });
            }
        }
        if leaving && requests.is_empty() && farewells.is_empty() {
            shared.left.notify_one();
            return;
        }
        let event = tokio::select! {
            biased;
            () = shared.halting.cancelled() => return,
            Some(event) = requests.join_next() => event,
            Some(_) = farewells.join_next() => {
                if let Some(consumer) = group.lock().membership.consumer() {
                    consumer.handle_departed();
                }
                continue;
            }
            () = super::wait(&shared.membership, until) => continue,
        };
        let event = match event {
            Ok(event) => event,
            Err(error) if error.is_panic() => {
                if let Some(classic) = group.lock().membership.classic() {
                    classic.handle_panic();
                }
                shared.fail(Error::Usage(
                    "the partition assignor panicked while this consumer led its group; the panic's \
                     message says why",
                ));
                continue;
            }
            // Aborted, in order to leave.
            Err(_) => continue,
        };
        match event {
            Event::Committed(number) => {
                let done = revocation.take_if(|revocation| revocation.number == number);
                if let Some(Revocation {
                    partitions, all, ..
                }) = done
                {
                    Counters::add(&counters.partitions_revoked, partitions.len());
                    tracing::info!(
                        group = shared.config.group_id,
                        ?partitions,
                        "partitions revoked"
                    );
                    let some = Some(&partitions[..]).filter(|_| !all);
                    give_up(&shared, group, some, Membership::is_revoking);
                    shared.follow_assigned();
                    group.lock().membership.handle_revoked(now());
                    shared.reader.lock().hold = false;
                }
            }
            Event::Introduced(number, partitions) => shared.core(|core| {
                for partition in &partitions {
                    core.release_hold(partition, number);
                }
            }),
            event => handle(&shared, event),
        }
    }
}

/// Tells those who read these partitions one by one, if they are still the group's.
fn end_streams(
    shared: &Arc<Shared>,
    group: &Mutex<Group>,
    partitions: &[TopicPartition],
    end: StreamEnd,
) {
    let group = group.lock();
    if group.subscription.is_some() {
        shared.core(|core| core.end_leases(Some(partitions), end));
    }
}

/// Takes these partitions away, or all, if they are still the group's and `wanted` holds: meanwhile the
/// application may have unsubscribed, and assigned others by hand.
fn give_up(
    shared: &Arc<Shared>,
    group: &Mutex<Group>,
    partitions: Option<&[TopicPartition]>,
    wanted: impl FnOnce(&Membership) -> bool,
) {
    let mut reader = shared.reader.lock();
    let mut group = group.lock();
    group.led = None;
    if group.subscription.is_none() || !wanted(&group.membership) {
        return;
    }
    shared.core(|core| match partitions {
        None => unassign_all(&mut reader, core),
        Some(partitions) => {
            for partition in partitions {
                reader.drop_partition(partition);
                core.unassign(partition);
            }
        }
    });
}

/// Whatever the application was kept from is over.
fn release(shared: &Shared) {
    let mut reader = shared.reader.lock();
    reader.hold = false;
    // The place in the group is asked for again when the application comes.
    reader.attention = true;
}

/// Starts to read these. If a listener is to be told, they are held under this number until then. Whether one is.
fn adopt(shared: &Arc<Shared>, partitions: Vec<TopicPartition>, number: u64) -> bool {
    let Some(group) = &shared.group else {
        return false;
    };
    if group.lock().subscription.is_none() {
        return false; // The application has unsubscribed meanwhile.
    }
    tracing::info!(
        group = shared.config.group_id,
        ?partitions,
        "partitions assigned"
    );
    shared.reader.lock().hold = false;
    let listens = shared.config.rebalance_listener.is_some();
    let hold = listens.then_some(number);
    let partitions = partitions.into_iter();
    shared.assign(partitions.map(|name| (name, Offset::Committed)), hold);
    shared.application.notify_waiters();
    listens
}

/// The coordinator that was used is not it any more, or cannot be reached.
async fn rediscover(shared: &Shared) {
    let Some(group) = &shared.config.group_id else {
        return;
    };
    // Known at once if it is known at all.
    let known =
        shared
            .cluster
            .coordinator(CoordinatorKind::Group, group, ottla_net::Instant::now());
    if let Ok(node) = known.await {
        shared
            .cluster
            .forget_coordinator(CoordinatorKind::Group, group, node);
    }
}

impl Shared {
    /// A subscription by a pattern that the brokers match is for the topics that partitions are assigned of.
    fn follow_assigned(self: &Arc<Self>) {
        let Some(group) = &self.group else { return };
        let mut group = group.lock();
        if !group.is_by_brokers() {
            return;
        }
        let assigned = |core: &mut Core<Payload>| {
            let topics = core.assignment().map(|name| name.topic.clone());
            topics.collect::<BTreeSet<Str>>()
        };
        let topics = self.core(assigned);
        group.topics = topics.iter().cloned().collect();
        drop(group);
        // That one of the others is gone is no trouble.
        self.retain_tracked(&topics.into_iter().collect());
    }

    /// The protocol was chosen, and the subscription waits for that.
    fn choose(self: &Arc<Self>, consumer: bool) {
        let Some(group) = &self.group else { return };
        let mut group = group.lock();
        group.choose(consumer);
        tracing::info!(
            group = self.config.group_id,
            protocol = if consumer { "consumer" } else { "classic" },
            "chose the group's protocol"
        );
        match group.subscription.clone() {
            None => {}
            Some(Subscribed::Names) => {
                let topics = group.topics.clone();
                group.membership.subscribe(topics, now());
            }
            Some(Subscribed::Pattern(pattern) | Subscribed::ByBrokers(pattern)) => {
                group.topics.clear();
                let matches_itself = group.subscribe_pattern(pattern);
                drop(group);
                self.track_all(matches_itself);
                self.match_topics();
            }
        }
    }

    /// Whether the group is joined by the classic protocol after this error of the other one, as `auto` allows: the
    /// brokers have switched it off meanwhile, or the group has classic members that they cannot take along.
    fn falls_back(self: &Arc<Self>, error: ErrorCode) -> bool {
        let group = self.group.as_ref();
        let other = matches!(
            error,
            ErrorCode::UNSUPPORTED_VERSION | ErrorCode::GROUP_ID_NOT_FOUND
        );
        let falls_back = other
            && self.config.group_protocol == GroupProtocol::Auto
            && group.is_some_and(|group| group.lock().membership.consumer().is_some());
        if falls_back {
            self.choose(false);
        }
        falls_back
    }
}

/// Tells the coordinator that this member leaves.
async fn say_goodbye(shared: Arc<Shared>, step: Step) {
    let (member_id, reason) = match step {
        Step::Leave { member_id, reason } => (member_id, reason),
        Step::Depart { member_id, epoch } => {
            return consumer_group::depart(&shared, member_id, epoch).await;
        }
        _ => return,
    };
    let request = |version: i16| LeaveGroupRequest {
        group_id: group_id(&shared),
        member_id: if version < 3 {
            member_id.clone()
        } else {
            Str::new()
        },
        members: match version {
            0..3 => Vec::new(),
            _ => vec![MemberIdentity {
                member_id,
                reason: Some(reason.into()),
                ..Default::default()
            }],
        },
        ..Default::default()
    };
    // Not behind a join that the coordinator keeps waiting.
    let left = ask(&shared, Lane::Control, request, LEAVE_TIMEOUT).await;
    if let Err(error) = left {
        tracing::info!(%error, "could not leave the group; its coordinator will notice");
    }
}

/// Starts what a step asks for.
fn begin(shared: &Arc<Shared>, step: Step, requests: &mut JoinSet<Event>) -> Option<AbortHandle> {
    let shared = shared.clone();
    let request = match step {
        Step::Choose { attempt } => requests.spawn(async move {
            let speaks = consumer_group::speaks_consumer_protocol(&shared).await;
            Event::Chosen(attempt, speaks)
        }),
        Step::Beat(beat) => requests.spawn(async move {
            let attempt = beat.attempt;
            Event::Beaten(attempt, consumer_group::beat(&shared, beat).await)
        }),
        Step::Name(topics) => {
            requests.spawn(async move { Event::Named(consumer_group::name(&shared, topics).await) })
        }
        Step::Join {
            attempt,
            member_id,
            owned,
            reason,
        } => requests.spawn(async move {
            let joined = join(&shared, member_id, owned, reason).await;
            Event::Joined(attempt, joined)
        }),
        Step::Lead {
            attempt,
            assignor,
            members,
        } => requests.spawn(async move { lead(&shared, attempt, assignor, members).await }),
        Step::Sync {
            attempt,
            generation,
            member_id,
            assignor,
            assignments,
        } => requests.spawn(async move {
            let answer = sync(&shared, generation, member_id, assignor, assignments).await;
            Event::Synced(attempt, answer)
        }),
        Step::Heartbeat {
            attempt,
            generation,
            member_id,
        } => {
            requests.spawn(async move {
                let request = |version| HeartbeatRequest {
                    group_id: group_id(&shared),
                    generation_id: generation,
                    member_id,
                    group_instance_id: instance_id(&shared, version, 3),
                    ..Default::default()
                };
                let lane = Lane::Coordination;
                // The coordinator answers at once, or not at all: then another one is found in time.
                let config = &shared.config;
                let patience = config.session_timeout.min(config.request_timeout);
                let response = ask(&shared, lane, request, patience).await;
                Event::Heartbeat(attempt, response.map(|response| response.error_code))
            })
        }
        Step::Leave { .. }
        | Step::Depart { .. }
        | Step::Adopt(_)
        | Step::Revoke { .. }
        | Step::Lose(_)
        | Step::Drop
        | Step::Rediscover
        | Step::Fail(_)
        | Step::Wait(_) => return None,
    };
    Some(request)
}

fn handle(shared: &Arc<Shared>, event: Event) {
    let Some(group) = &shared.group else { return };
    let now = now();
    let mut locked = group.lock();
    let membership = &mut locked.membership;
    let (attempt, error) = match event {
        Event::Joined(attempt, Ok(joined)) => {
            if let Some(classic) = membership.classic() {
                classic.handle_joined(attempt, joined, now);
            }
            return;
        }
        Event::Led {
            attempt,
            assignor,
            assignments,
            led,
        } => {
            if let Some(classic) = membership.classic() {
                classic.handle_led(attempt, assignor, assignments);
                locked.led = Some(led);
            }
            return;
        }
        Event::Synced(attempt, Ok(result)) => {
            if let Some(classic) = membership.classic() {
                classic.handle_synced(attempt, result, now);
            }
            return;
        }
        Event::Heartbeat(attempt, Ok(error)) => {
            Counters::add(&shared.counters.heartbeats, 1);
            if let Some(classic) = membership.classic() {
                classic.handle_heartbeat(attempt, error, now);
            }
            return;
        }
        Event::Chosen(_, Ok(speaks)) => {
            let choosing = membership.is_choosing();
            drop(locked);
            if choosing {
                shared.choose(speaks);
            }
            return;
        }
        Event::Beaten(attempt, Ok(beaten)) => {
            Counters::add(&shared.counters.heartbeats, 1);
            if let Some(consumer) = membership.consumer() {
                consumer.handle_beaten(attempt, beaten, now);
            }
            return;
        }
        Event::Named(names) => {
            if let Some(consumer) = membership.consumer() {
                consumer.handle_named(names, now);
            }
            return;
        }
        Event::Joined(attempt, Err(error))
        | Event::Synced(attempt, Err(error))
        | Event::Heartbeat(attempt, Err(error))
        | Event::Chosen(attempt, Err(error))
        | Event::Beaten(attempt, Err(error)) => (attempt, error),
        Event::Told | Event::Introduced(..) | Event::Committed(_) => return,
    };
    tracing::warn!(group = shared.config.group_id, %error, "the coordinator did not answer");
    match error {
        NetError::Coordinator { code, .. } if !code.is_retriable() => {
            membership.handle_refused(attempt, code, now);
        }
        error => {
            membership.handle_unanswered(attempt, now);
            if !error.is_retriable() {
                drop(locked);
                shared.core(|core| core.report(error.into()));
            }
        }
    }
}

/// One request to the coordinator, which has `patience` to answer once it is found; finding it may take as long.
pub(super) async fn ask<R: Request>(
    shared: &Shared,
    lane: Lane,
    request: impl FnOnce(i16) -> R,
    patience: Duration,
) -> Result<R::Response, NetError> {
    let group = shared.config.group_id.as_deref().unwrap_or_default();
    let deadline = ottla_net::Instant::now() + patience;
    let kind = CoordinatorKind::Group;
    let node = shared.cluster.coordinator(kind, group, deadline).await?;
    let connection = match shared.cluster.connection(node, lane, deadline).await {
        Ok(connection) => connection,
        Err(error) => {
            shared.cluster.forget_coordinator(kind, group, node);
            return Err(error);
        }
    };
    let version = connection.version::<R>(i16::MAX)?;
    let request = request(version);
    // What is left after a long search would be no time to answer in, and the answer would be lost.
    let deadline = ottla_net::Instant::now() + patience;
    let reply = connection.submit(&request, version, deadline)?;
    let answer = reply.await;
    if answer.is_err() {
        shared.cluster.forget_coordinator(kind, group, node);
    }
    answer
}

async fn join(
    shared: &Shared,
    member_id: Str,
    owned: Vec<TopicPartition>,
    reason: &'static str,
) -> Result<Joined, NetError> {
    let config = &shared.config;
    let (mut topics, previous) = match &shared.group {
        Some(group) => {
            let mut group = group.lock();
            // Whoever leads it next distributes what there is then.
            group.led = None;
            let previous = group.membership.classic();
            let previous = previous.and_then(|classic| classic.previous().cloned());
            (group.topics.clone(), previous)
        }
        None => (Vec::new(), None),
    };
    topics.sort_unstable();
    // The generation of the assignment that it goes by: two members that were given a partition one after the other
    // must not seem to claim it at the same time, because one of them never heard of a later assignment.
    let generation = previous.as_ref().map(|previous| previous.generation);
    let generation = generation.filter(|_| !member_id.is_empty());
    let protocols = config
        .assignors
        .iter()
        .map(|assignor| {
            let subscription = Subscription {
                topics: topics.clone(),
                user_data: assignor.user_data(&topics, previous.as_ref()),
                owned: owned.clone(),
                generation,
                rack: Some(config.client_rack.clone().into()).filter(|rack: &Str| !rack.is_empty()),
            };
            JoinGroupRequestProtocol {
                name: assignor.name().to_owned().into(),
                metadata: subscription.encode(),
                ..Default::default()
            }
        })
        .collect();
    let request = |version| JoinGroupRequest {
        group_id: group_id(shared),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.max_poll_interval),
        member_id,
        group_instance_id: instance_id(shared, version, 5),
        protocol_type: "consumer".into(),
        protocols,
        reason: Some(reason.into()),
        ..Default::default()
    };
    // The coordinator answers when all members have joined, or their time is up.
    let patience = config.max_poll_interval.max(config.session_timeout) + JOIN_GRACE;
    let response = ask(shared, Lane::Coordination, request, patience).await?;
    Ok(Joined {
        error: response.error_code,
        generation: response.generation_id,
        member_id: response.member_id,
        leader: response.leader,
        assignor: response.protocol_name.unwrap_or_default(),
        members: response
            .members
            .into_iter()
            .map(|member| (member.member_id, member.group_instance_id, member.metadata))
            .collect(),
        skip_assignment: response.skip_assignment,
    })
}

/// Computes the assignment of a group this member leads.
async fn lead(shared: &Shared, attempt: u64, assignor: Str, members: Vec<Member>) -> Event {
    let topics: BTreeSet<&Str> = members.iter().flat_map(|member| &member.topics).collect();
    shared.track(topics.iter().map(|topic| (*topic).clone()));
    // A topic that does not exist is left out; when it comes into being, the group rebalances.
    let deadline = ottla_net::Instant::now() + TOPICS_TIMEOUT;
    for topic in &topics {
        if let Err(error) = shared.cluster.topic(topic, deadline).await {
            tracing::warn!(%topic, %error, "assigned without this topic");
        }
    }
    let metadata = shared.cluster.metadata();
    let heeds_racks = !shared.config.client_rack.is_empty();
    let all = told(&metadata, topics.iter().copied(), true);
    let led = told(&metadata, topics.iter().copied(), heeds_racks);
    let mut known = GroupTopics::default();
    for (topic, racks) in all.into_iter().filter(|(_, racks)| !racks.is_empty()) {
        known.insert(topic, racks);
    }
    let strategy = shared
        .config
        .assignors
        .iter()
        .find(|a| *a.name() == *assignor);
    let assigned = match strategy {
        Some(strategy) => strategy.assign(&known, &members),
        None => {
            // The coordinator chooses among what this member offered.
            tracing::error!(%assignor, "the coordinator chose an assignor this member does not have");
            vec![Vec::new(); members.len()]
        }
    };
    let assignments = members
        .into_iter()
        .map(|member| member.id)
        .zip(assigned)
        .collect();
    Event::Led {
        attempt,
        assignor,
        assignments,
        led,
    }
}

async fn sync(
    shared: &Shared,
    generation: i32,
    member_id: Str,
    assignor: Str,
    assignments: Vec<(Str, Bytes)>,
) -> Result<Result<Bytes, ErrorCode>, NetError> {
    let request = |version| SyncGroupRequest {
        group_id: group_id(shared),
        generation_id: generation,
        member_id,
        group_instance_id: instance_id(shared, version, 3),
        protocol_type: Some("consumer".into()),
        protocol_name: Some(assignor),
        assignments: assignments
            .into_iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id,
                assignment,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    // Answered when the leader has sent the assignment.
    let patience = shared
        .config
        .max_poll_interval
        .max(shared.config.session_timeout)
        + JOIN_GRACE;
    let response = ask(shared, Lane::Coordination, request, patience).await?;
    Ok(response.error_code.ok().map(|()| response.assignment))
}

pub(super) fn group_id(shared: &Shared) -> Str {
    shared.config.group_id.clone().unwrap_or_default().into()
}

/// The instance id, in versions that know it.
fn instance_id(shared: &Shared, version: i16, since: i16) -> Option<Str> {
    shared
        .config
        .group_instance_id
        .clone()
        .filter(|_| version >= since)
        .map(Into::into)
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// How much longer than the rebalance may take its answer is waited for.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// How long the leader waits to hear of topics it did not know.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(3);

/// How long leaving may take; the session's end does the same.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
