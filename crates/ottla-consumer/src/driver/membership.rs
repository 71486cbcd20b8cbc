//! Drives the membership: sends what [`Membership`] asks for on the coordination lane, moves partitions in and
//! out of the core, and looks after the application's presence.
//!
//! Every request is a task of its own, so that heartbeats go on while partitions are being given up.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ottla_net::{CoordinatorKind, Error as NetError, Lane};
use ottla_wire::{Bytes, ErrorCode, Request, Str, Uuid};
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument;

use super::{
    Shared, classic_group, consumer_group,
    group::{Group, Subscribed, Told},
    now,
    rebalance::Rebalance,
    unassign_all,
};
use crate::{
    Error, GroupProtocol, Offset, TopicPartition,
    core::{Core, StreamEnd},
    group::{
        classic::Joined,
        consumer::Beaten,
        membership::{Membership, Step},
    },
    listener::News,
    metrics::Counters,
    payload::Payload,
};

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
    let mut rebalance = Rebalance::default();
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
            let waiting = reader.waiters.any();
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
                    rebalance.begin(&shared);
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
                    rebalance.adopted(&shared, partitions.len());
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
                    rebalance.end(Some(error));
                    refused(&shared, error);
                }
                Step::Rediscover => rediscover(&shared).await,
                step if step.is_farewell() => {
                    rebalance.end(None);
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
                        rebalance.begin(&shared);
                    }
                    let beats = matches!(step, Step::Beat(_));
                    let request = begin(&shared, step, &mut requests);
                    if beats {
                        beating = request;
                    }
                }
            }
        };
        if group.lock().membership.is_idle() {
            // A static member leaves without a word.
            rebalance.end(None);
        }
        if let Some(revocation) = revocation
            .as_mut()
            .filter(|revocation| !revocation.committing)
        {
            let (number, all) = (revocation.number, revocation.all);
            let reader = shared.reader.lock();
            let came = reader.waiters.any() || reader.polls != revocation.polls;
            drop(reader);
            let done = shared.core(|core| match core.is_split() {
                true => core.leases_gone(Some(&revocation.partitions)),
                false => came || !all && core.is_done_with(&revocation.partitions),
            });
            if done {
                revocation.committing = true;
                let (shared, partitions) = (shared.clone(), revocation.partitions.clone());
                let giving_up = async move {
                    // It came back: it is done with all it has of them.
                    if !all {
                        shared.core(|core| core.mark_processed_of(&partitions));
                    }
                    let deadline = || now() + shared.config.request_timeout;
                    let in_time = shared.finish_commits(all, deadline()).await;
                    shared.tell_listener(News::Revoked, partitions).await;
                    if in_time && shared.config.rebalance_listener.is_some() {
                        // What the listener began to commit is still under way as the partitions' owner.
                        shared.settled(deadline()).await;
                    }
                    Event::Committed(number)
                };
                // What the listener does is part of it.
                requests.spawn(giving_up.instrument(rebalance.span()));
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
                    rebalance.revoked(partitions.len());
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

/// The group cannot be joined: no call for records succeeds, unless there is another subscription by now.
fn refused(shared: &Arc<Shared>, error: ErrorCode) {
    let mut reader = shared.reader.lock();
    let Some(group) = &shared.group else { return };
    // Kept until it is told: who subscribes after this forgets it.
    let group = group.lock();
    if group.subscription.is_none() || !group.membership.is_idle() {
        return;
    }
    let name = shared.config.group_id.clone().unwrap_or_default().into();
    reader.fatal = Some(Error::Group { group: name, error });
    drop((group, reader));
    shared.wake_for_error();
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
    let listens = shared.config.rebalance_listener.is_some();
    let mut reader = shared.reader.lock();
    // Kept until they are assigned: the application may be unsubscribing, and who took away what there was would not
    // come again.
    let group = group.lock();
    let owned = |partition| group.membership.owns(partition);
    if group.subscription.is_none() || !partitions.iter().all(owned) {
        return false;
    }
    tracing::info!(
        group = shared.config.group_id,
        ?partitions,
        "partitions assigned"
    );
    reader.hold = false;
    let hold = listens.then_some(number);
    let partitions = partitions.into_iter();
    shared.assign(partitions.map(|name| (name, Offset::Committed)), hold);
    drop((group, reader));
    shared.application.ring();
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
    /// Topics are looked after that are subscribed to, or read, or distributed by this member; that one of the others is
    /// gone is no trouble. A subscription by a pattern that the brokers match is for the topics that partitions are assigned
    /// of.
    pub(crate) fn follow_assigned(self: &Arc<Self>) {
        let Some(group) = &self.group else { return };
        // Kept to the end: another subscription adds its topics after this, or is known here.
        let mut group = group.lock();
        let assigned = |core: &mut Core<Payload>| {
            let topics = core.assignment().map(|name| name.topic.clone());
            topics.collect::<BTreeSet<Str>>()
        };
        let mut topics = self.core(assigned);
        match group.subscription {
            Some(Subscribed::ByBrokers(_)) => group.topics = topics.iter().cloned().collect(),
            Some(Subscribed::Names) => {
                topics.extend(group.topics.iter().cloned());
                topics.extend(group.led.iter().flat_map(|led| led.keys().cloned()));
            }
            Some(Subscribed::Pattern(_)) | None => return,
        }
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
    classic_group::leave(&shared, member_id, reason).await;
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
            let joined = classic_group::join(&shared, member_id, owned, reason).await;
            Event::Joined(attempt, joined)
        }),
        Step::Lead {
            attempt,
            assignor,
            members,
            skip,
        } => requests.spawn(async move {
            let (assignments, led) = classic_group::lead(&shared, &assignor, members, skip).await;
            Event::Led {
                attempt,
                assignor,
                assignments,
                led,
            }
        }),
        Step::Sync {
            attempt,
            generation,
            member_id,
            assignor,
            assignments,
        } => requests.spawn(async move {
            let answer =
                classic_group::sync(&shared, generation, member_id, assignor, assignments).await;
            Event::Synced(attempt, answer)
        }),
        Step::Heartbeat {
            attempt,
            generation,
            member_id,
        } => requests.spawn(async move {
            let answer = classic_group::heartbeat(&shared, generation, member_id).await;
            Event::Heartbeat(attempt, answer)
        }),
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
            if let Some(classic) = membership.classic()
                && classic.handle_led(attempt, assignor, assignments)
            {
                locked.led = Some(led);
            }
            return;
        }
        Event::Synced(attempt, Ok(result)) => {
            if let Some(classic) = membership.classic() {
                classic.handle_synced(attempt, result, now);
            }
            // What changed since it was distributed was no news while the group was waited for.
            locked.topics_changed(&shared.cluster.metadata());
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

pub(super) fn group_id(shared: &Shared) -> Str {
    shared.config.group_id.clone().unwrap_or_default().into()
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// How long leaving may take; the session's end does the same.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
