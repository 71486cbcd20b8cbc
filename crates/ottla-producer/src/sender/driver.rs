//! The task that sends to one broker: moves bytes between the core and the connection.
//!
//! Owns the connection's replies to come. Decides nothing about batches. Batches are never held across
//! an await, so the task may be stopped at any of them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla_net::{Connection, Error, Lane, Pending, Sent as Reached};
use ottla_wire::messages::produce::{ProduceRequest, ProduceResponse};
use ottla_wire::{ErrorCode, Str};
use tokio::time::{Instant, sleep_until};

use super::core::{Answer, Failure, Request};
use super::message::{Sent, answers, leader_hints, produce_request};
use crate::client::{Client, PartitionLine};
use crate::config::Acks;
use crate::partitioner::BrokerHealth;
use crate::topics::Partition;

/// Sends to `broker` what `line` and the core tell of, until it is aborted.
pub(crate) async fn run_broker(client: Arc<Client>, broker: i32, line: Arc<PartitionLine>) {
    let health = client.watches_health().then(|| client.health(broker));
    let mut sender = BrokerSender {
        client,
        health,
        broker,
        line,
        flights: VecDeque::new(),
        connection: None,
        connecting: None,
        failures: 0,
        connect_after: None,
        due: Vec::new(),
        hurried: Vec::new(),
        wanted: Vec::new(),
    };
    loop {
        let wake_at = sender.turn();
        let line = sender.line.clone();
        tokio::select! {
            biased;
            () = poll_fn(|cx| sender.poll_io(cx)) => {}
            () = line.changed() => {}
            () = sleep_until_some(wake_at) => {}
        }
    }
}

struct BrokerSender {
    client: Arc<Client>,
    broker: i32,
    /// Where to say whether the broker takes what there is; none if nobody asks.
    health: Option<Arc<BrokerHealth>>,
    line: Arc<PartitionLine>,
    /// In the order of sending, which is that of the answers.
    flights: VecDeque<Flight>,
    connection: Option<Connection>,
    connecting: Option<Connecting>,
    /// Attempts to connect that failed in a row.
    failures: u32,
    connect_after: Option<Instant>,
    // Kept to save their allocations.
    due: Vec<Arc<Partition>>,
    hurried: Vec<Arc<Partition>>,
    wanted: Vec<usize>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send>>;

struct Flight {
    request: u64,
    sent: Sent,
    sent_at: Instant,
    reply: Reply,
}

enum Reply {
    Response(Pending<ProduceRequest>),
    /// Without acknowledgement: that the bytes were written.
    Written(ottla_net::Written),
}

impl BrokerSender {
    /// Does all there is to do now. Gives the time of the next turn, if nothing else brings it on.
    fn turn(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let linger_end = self.line.take(now, &mut self.due, &mut self.hurried);
        if !self.due.is_empty() || !self.hurried.is_empty() {
            for partition in &self.hurried {
                partition.front.lock().queue.hurry();
            }
            let mut core = self.client.core.lock();
            for partition in self.due.drain(..).chain(self.hurried.drain(..)) {
                core.front_ready(partition.slot);
            }
            self.carry_out(core);
        }
        self.send_all(now);
        let mut core = self.client.core.lock();
        if let Some(health) = &self.health {
            match core.is_waiting_for(self.broker, now) {
                true => health.waits(now),
                false => health.moves(),
            }
        }
        let core_at = core.next_timeout(self.broker);
        let waits = self
            .connect_after
            .filter(|_| core.may_send(self.broker, now));
        self.carry_out(core);
        [linger_end, core_at, waits].into_iter().flatten().min()
    }

    fn send_all(&mut self, now: Instant) {
        loop {
            let mut core = self.client.core.lock();
            let may_send = core.may_send(self.broker, now);
            self.carry_out(core);
            if !may_send || !self.ensure_connection(now) {
                return;
            }
            let mut wanted = std::mem::take(&mut self.wanted);
            self.client
                .core
                .lock()
                .wanted(self.broker, now, &mut wanted);
            let pulled_any = !wanted.is_empty();
            for slot in wanted.drain(..) {
                let partition = self.client.partition(slot);
                let (batch, more) = self.client.pull(&partition, now);
                self.client.core.lock().supply(slot, batch, more);
            }
            self.wanted = wanted;
            let mut core = self.client.core.lock();
            let request = core.next_request(self.broker, now);
            self.carry_out(core);
            match request {
                Some(request) => self.submit(request, now),
                None if pulled_any => {}
                None => return,
            }
        }
    }

    /// Whether there is a connection to send on now; if not, one is on its way.
    fn ensure_connection(&mut self, now: Instant) -> bool {
        if self.connection.as_ref().is_some_and(Connection::is_usable) {
            return true;
        }
        // Two connections would not keep the order of what is in flight on the first.
        if !self.flights.is_empty() || self.connecting.is_some() {
            return false;
        }
        if self.connect_after.is_some_and(|after| after > now) {
            return false;
        }
        self.connect_after = None;
        self.connection = None;
        let (cluster, broker) = (self.client.cluster.clone(), self.broker);
        let deadline = now + self.client.config.request_timeout;
        self.connecting = Some(Box::pin(async move {
            cluster.connection(broker, Lane::Produce, deadline).await
        }));
        // Poll it at once: mostly there is a connection already.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.poll_connecting(&mut cx).is_ready() && self.connection.is_some()
    }

    fn submit(&mut self, request: Request, now: Instant) {
        let Some(connection) = &self.connection else {
            unreachable!("a request is taken only when there is a connection");
        };
        let Request {
            id,
            version_max,
            acks,
            retries,
            parts,
        } = request;
        self.client
            .supplies
            .outstanding
            .meters
            .request_sent(retries);
        let parts = {
            let partitions = self.client.partitions.read();
            parts
                .into_iter()
                .map(|(slot, bytes)| (partitions[slot].clone(), bytes))
                .collect()
        };
        let config = &self.client.config;
        let (sent, mut message, version) =
            produce_request(parts, acks, config.request_timeout, |cap| {
                connection.version::<ProduceRequest>(cap.min(version_max))
            });
        message.transactional_id = self.client.transactions.id.clone();
        let deadline = now + config.request_timeout;
        let reply = version.and_then(|version| match acks {
            Acks::None => connection
                .submit_no_reply(&message, version, deadline)
                .map(Reply::Written),
            _ => connection
                .submit(&message, version, deadline)
                .map(Reply::Response),
        });
        match reply {
            Ok(reply) => {
                self.flights.push_back(Flight {
                    request: id,
                    sent,
                    sent_at: now,
                    reply,
                });
            }
            Err(error) => self.failed(id, &sent, &error),
        }
    }

    /// Ready when something came in and was dealt with.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = self.poll_connecting(cx);
        while let Some(flight) = self.flights.front_mut() {
            let outcome = match &mut flight.reply {
                Reply::Response(pending) => match Pin::new(pending).poll(cx) {
                    Poll::Ready(outcome) => outcome.map(Some),
                    Poll::Pending => break,
                },
                Reply::Written(written) => match Pin::new(written).poll(cx) {
                    Poll::Ready(outcome) => outcome.map(|()| None),
                    Poll::Pending => break,
                },
            };
            progress = Poll::Ready(());
            let Some(flight) = self.flights.pop_front() else {
                break;
            };
            match outcome {
                Ok(response) => self.answered(&flight, response.as_ref()),
                Err(error) => self.failed(flight.request, &flight.sent, &error),
            }
        }
        progress
    }

    fn poll_connecting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connecting) = &mut self.connecting else {
            return Poll::Pending;
        };
        let Poll::Ready(outcome) = connecting.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.connecting = None;
        let mut core = self.client.core.lock();
        match outcome {
            Ok(connection) => {
                core.set_broker_error(self.broker, None);
                self.connection = Some(connection);
                self.failures = 0;
            }
            Err(error) => {
                tracing::debug!(broker = self.broker, %error, "cannot send");
                core.set_broker_error(self.broker, Some(error.to_string().into()));
                self.failures += 1;
                let config = &self.client.config;
                let backoff =
                    ottla_net::Backoff::new(config.retry_backoff, config.retry_backoff_max);
                self.connect_after = Some(Instant::now() + backoff.random_delay(self.failures));
                self.client.cluster.refresh_soon();
            }
        }
        Poll::Ready(())
    }

    /// The broker answered; or, without a response, was not asked to.
    fn answered(&self, flight: &Flight, response: Option<&ProduceResponse>) {
        let now = Instant::now();
        if let Some(health) = &self.health {
            health.moves();
        }
        let answers = match response {
            Some(response) => {
                let meters = &self.client.supplies.outstanding.meters;
                meters.request_answered(now - flight.sent_at, response.throttle_time_ms);
                answers(&flight.sent, response)
            }
            None => {
                let handed_over = |slot: &usize| (*slot, unacknowledged());
                flight.sent.slots.iter().map(handed_over).collect()
            }
        };
        let stale = answers
            .iter()
            .any(|(_, answer)| answer.code.refreshes_metadata());
        if let Some(response) = response.filter(|_| stale) {
            self.learn_leaders(&flight.sent, response);
        }
        let mut core = self.client.core.lock();
        for (slot, answer) in answers {
            if answer.code.is_err() {
                let code = answer.code.name();
                let at = &self.client.partition(slot).at;
                tracing::debug!(broker = self.broker, %at, code, "produce request refused");
            }
            core.answered(
                self.broker,
                flight.request,
                slot,
                answer,
                now,
                fastrand::f64(),
            );
        }
        core.request_done(self.broker);
        self.carry_out(core);
    }

    fn failed(&self, request: u64, sent: &Sent, error: &Error) {
        self.client.supplies.outstanding.meters.request_failed();
        let now = Instant::now();
        let maybe_sent = error.sent() == Reached::Maybe;
        let mut core = self.client.core.lock();
        if error.is_retriable() || maybe_sent {
            tracing::debug!(broker = self.broker, %error, "produce request failed");
            let failure = Failure {
                maybe_sent,
                reason: error.to_string().into(),
            };
            let slots = sent.slots.iter().copied();
            core.failed(self.broker, request, slots, &failure, now, fastrand::f64());
        } else {
            // The request cannot be expressed, or not for this broker: no use to try again.
            for slot in &sent.slots {
                let answer = Answer {
                    code: ErrorCode::UNSUPPORTED_VERSION,
                    message: Some(error.to_string().into()),
                    ..unacknowledged()
                };
                core.answered(self.broker, request, *slot, answer, now, fastrand::f64());
            }
            core.request_done(self.broker);
        }
        self.carry_out(core);
        if maybe_sent || error.is_retriable() {
            self.client.cluster.refresh_soon();
        }
    }

    fn learn_leaders(&self, sent: &Sent, response: &ProduceResponse) {
        let hints = leader_hints(sent, response);
        let endpoints = response.node_endpoints.iter().map(|endpoint| {
            let rack = endpoint.rack.as_ref().map(Str::as_ref);
            (
                endpoint.node_id,
                endpoint.host.as_ref(),
                endpoint.port,
                rack,
            )
        });
        if !hints.is_empty() {
            self.client.cluster.learn_leaders(&hints, endpoints);
            // Before the answer is, so that the batches find their new leader.
            let metadata = self.client.cluster.metadata();
            let topics = hints.iter().filter_map(|hint| metadata.topic(hint.topic));
            self.client.learn_topics(topics);
        }
        self.client.cluster.refresh_soon();
    }

    fn carry_out(&self, mut core: parking_lot::MutexGuard<'_, super::core::SenderCore>) {
        let effects = core.take_effects();
        drop(core);
        self.client.carry_out(effects, Some(self.broker));
    }
}

/// What is known of a batch that no broker acknowledged.
fn unacknowledged() -> Answer {
    Answer {
        code: ErrorCode::NONE,
        message: None,
        base_offset: -1,
        append_time: -1,
        blamed: Vec::new(),
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
