//! Decides what to ask of the brokers about topics and leaders, and what to believe of the answers.
//!
//! A plain state machine: wishes, answers, failures and the time go in; queries and snapshots come out.
//! What it keeps:
//!
//! - *Older news never wins.* Of two answers about a partition the one with the higher leader epoch
//!   stays, whichever comes later, unless the topic's id says that it is another topic.
//! - *A partial answer evicts nothing.* Only a full query drops topics, and only those that nobody
//!   tracks and nobody has asked for in a while.
//! - *An error is not ignorance.* A topic that was known keeps its partitions when a broker does not
//!   know it (any more, or yet).

mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use ottla_wire::{ErrorCode, Str, Uuid};
use tokio::time::Instant;

use self::merge::{merge_topic, take_endpoint, take_hint};
use crate::backoff::Backoff;
use crate::cluster::metadata::{Broker, LeaderHint, Metadata, Topic};

/// What is known, what is wished for, and when to ask next.
#[derive(Debug)]
pub(super) struct MetadataCache {
    policy: Policy,
    snapshot: Arc<Metadata>,
    interests: BTreeMap<Str, Interest>,
    /// How many want to see all topics.
    all_tracked: usize,
    /// When anybody first asked for anything. Nothing is sent before.
    started_at: Option<Instant>,
    in_flight: bool,
    /// Whether somebody suspects that what is known is out of date.
    refresh_wanted: bool,
    /// When all that is wished for was last learned.
    refreshed_at: Option<Instant>,
    /// No query before this, after failures.
    blocked_until: Option<Instant>,
    /// No query on demand before this, unless for topics never asked for.
    demand_after: Option<Instant>,
    failures: u32,
    /// Queries in a row that told nothing new.
    fruitless: u32,
    /// Since when queries only fail.
    unanswered_since: Option<Instant>,
    rebootstrap_wanted: bool,
    /// Counts answers and failures.
    answers: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) max_age: Duration,
    pub(super) max_idle: Duration,
    pub(super) retry: Backoff,
    /// `None`: never go back to the bootstrap servers.
    pub(super) rebootstrap_after: Option<Duration>,
    pub(super) auto_create: bool,
}

/// How much somebody cares for a topic.
#[derive(Debug)]
struct Interest {
    tracked: usize,
    waiting: usize,
    /// Somebody wants it to be asked about, and waits for no answer.
    wished: bool,
    wanted_at: Instant,
    /// Whether a query ever asked for it.
    asked: bool,
    /// Whether the last answer leaves nothing to ask again soon.
    settled: bool,
    /// [`MetadataCache::answers`] at the last answer about it.
    answered: u64,
}

/// What to ask the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// Names in order; `None` is all topics.
    pub(super) topics: Option<Vec<Str>>,
    pub(super) auto_create: bool,
    /// Whether it asks for everything that is wished for.
    is_full: bool,
    /// Ask the bootstrap servers: the brokers known no longer help (KIP-1102).
    pub(super) rebootstrap: bool,
}

/// A broker's endpoint that an answer to another request told of (KIP-951, FindCoordinator).
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) node: i32,
    pub(super) host: &'a str,
    pub(super) port: i32,
    pub(super) rack: Option<&'a str>,
}

impl Query {
    /// Whether an answer about this topic is an answer to this query.
    fn asks_about(&self, name: Option<&str>) -> bool {
        match (&self.topics, name) {
            (Some(asked), Some(name)) => {
                asked.binary_search_by(|asked| (**asked).cmp(name)).is_ok()
            }
            (None, Some(_)) => true,
            // Only answers to look-ups by id lack the name; none is made.
            (_, None) => false,
        }
    }
}

impl MetadataCache {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            snapshot: Arc::default(),
            interests: BTreeMap::new(),
            all_tracked: 0,
            started_at: None,
            in_flight: false,
            refresh_wanted: false,
            refreshed_at: None,
            blocked_until: None,
            demand_after: None,
            failures: 0,
            fruitless: 0,
            unanswered_since: None,
            rebootstrap_wanted: false,
            answers: 0,
        }
    }

    pub(super) fn snapshot(&self) -> &Arc<Metadata> {
        &self.snapshot
    }

    /// Answers and failures so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Asks for everything again soon.
    pub(super) fn request_refresh(&mut self, now: Instant) {
        self.started_at.get_or_insert(now);
        self.refresh_wanted = true;
    }

    /// Keeps a topic up to date until [`MetadataCache::untrack`].
    pub(super) fn track(&mut self, now: Instant, name: &str) {
        self.interest(now, name).tracked += 1;
    }

    /// Asks about a topic once, though nobody waits for it.
    pub(super) fn wish(&mut self, now: Instant, name: &str) {
        let usable = self.is_usable(name);
        let interest = self.interest(now, name);
        interest.wished = true;
        interest.settled &= usable;
    }

    /// Undoes one [`MetadataCache::track`].
    pub(super) fn untrack(&mut self, now: Instant, name: &str) {
        if let Some(interest) = self.interests.get_mut(name) {
            interest.tracked = interest.tracked.saturating_sub(1);
            interest.wanted_at = now;
        }
    }

    /// Keeps all topics up to date until [`MetadataCache::untrack_all`].
    pub(super) fn track_all(&mut self, now: Instant) {
        self.started_at.get_or_insert(now);
        self.all_tracked += 1;
        self.refresh_wanted = true;
    }

    /// Undoes one [`MetadataCache::track_all`].
    pub(super) fn untrack_all(&mut self) {
        self.all_tracked = self.all_tracked.saturating_sub(1);
    }

    /// Somebody waits until a topic is there.
    pub(super) fn begin_wait(&mut self, now: Instant, name: &str) {
        let usable = self.is_usable(name);
        let interest = self.interest(now, name);
        interest.waiting += 1;
        // Who waits although the matter looked settled has seen an error, and asks again.
        interest.settled &= usable;
    }

    /// Nobody waits any more: undoes one [`MetadataCache::begin_wait`].
    pub(super) fn end_wait(&mut self, now: Instant, name: &str) {
        if let Some(interest) = self.interests.get_mut(name) {
            interest.waiting = interest.waiting.saturating_sub(1);
            interest.wanted_at = now;
        }
    }

    /// Whether a topic was answered about after the answer numbered `answers`.
    pub(super) fn is_answered_since(&self, name: &str, answers: u64) -> bool {
        let interest = self.interests.get(name);
        interest.is_some_and(|interest| interest.answered > answers)
    }

    /// The query to make now, if one is due. Its outcome must be told with
    /// [`MetadataCache::handle_response`] or [`MetadataCache::handle_failure`].
    pub(super) fn poll_query(&mut self, now: Instant) -> Option<Query> {
        let started_at = self.started_at?;
        if self.next_query_at().is_none_or(|at| at > now) {
            return None;
        }
        let is_full = self.full_due_at(started_at) <= now;
        if is_full {
            self.refresh_wanted = false;
            self.forget_idle_topics(now);
        }
        let topics = if is_full && self.all_tracked > 0 {
            None
        } else {
            let names = self
                .interests
                .iter_mut()
                .filter(|(_, interest)| is_full || interest.is_open())
                .map(|(name, interest)| {
                    interest.asked = true;
                    name.clone()
                });
            Some(names.collect())
        };
        self.in_flight = true;
        Some(Query {
            topics,
            auto_create: self.policy.auto_create,
            is_full,
            rebootstrap: self.is_rebootstrap_due(now),
        })
    }

    /// When [`MetadataCache::poll_query`] has something to say.
    pub(super) fn next_query_at(&self) -> Option<Instant> {
        let started_at = self.started_at.filter(|_| !self.in_flight)?;
        let open = self
            .interests
            .values()
            .filter(|interest| interest.is_open());
        let open_at = open
            .map(|interest| match self.demand_after {
                Some(after) if interest.asked => after,
                _ => started_at,
            })
            .min();
        let full_at = self.full_due_at(started_at);
        let due = open_at.map_or(full_at, |at| at.min(full_at));
        Some(self.blocked_until.map_or(due, |until| due.max(until)))
    }

    /// Takes an answer in. Returns whether anything is new.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        query: &Query,
        response: &MetadataResponse,
        random: f64,
    ) -> bool {
        if response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED {
            self.handle_failure(now, random);
            self.rebootstrap_wanted = true;
            if !query.rebootstrap {
                self.blocked_until = None;
            }
            return false;
        }
        self.in_flight = false;
        self.answers += 1;
        self.failures = 0;
        self.blocked_until = None;
        self.unanswered_since = None;
        if query.rebootstrap {
            self.rebootstrap_wanted = false;
        }
        if query.is_full {
            self.refreshed_at = Some(now);
        }

        let mut next = Metadata::clone(&self.snapshot);
        let mut changed = self.take_cluster(&mut next, response);
        for topic in &response.topics {
            // What nobody asked about would never be dropped again.
            if query.asks_about(topic.name.as_deref()) {
                changed |= self.take_topic(&mut next, topic);
            }
        }
        if query.is_full {
            changed |= self.drop_unwanted(&mut next, query, response);
            // News also if nothing else is: whoever waits for all topics would wait for ever where there are none.
            let has_all = query.topics.is_none();
            changed |= std::mem::replace(&mut next.has_all_topics, has_all) != has_all;
        }
        if changed {
            self.publish(next);
            self.fruitless = 0;
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        let pause = self.policy.retry.delay(self.fruitless.max(1), random);
        self.demand_after = Some(now + pause);
        changed
    }

    /// No broker answered.
    pub(super) fn handle_failure(&mut self, now: Instant, random: f64) {
        self.in_flight = false;
        self.answers += 1;
        self.refresh_wanted = true;
        self.failures = self.failures.saturating_add(1);
        self.unanswered_since.get_or_insert(now);
        self.blocked_until = Some(now + self.policy.retry.delay(self.failures, random));
    }

    /// The servers asked instead of the known brokers were no help either: the brokers get another turn.
    pub(super) fn handle_rebootstrap_failure(&mut self, now: Instant) {
        self.rebootstrap_wanted = false;
        self.unanswered_since = Some(now);
    }

    /// Takes leaders and endpoints in that an error reply told of (KIP-951). Returns whether anything
    /// is new.
    pub(super) fn learn(&mut self, hints: &[LeaderHint<'_>], endpoints: &[Endpoint<'_>]) -> bool {
        let mut next = Metadata::clone(&self.snapshot);
        let mut changed = false;
        for endpoint in endpoints {
            changed |= take_endpoint(&mut next, endpoint);
        }
        for hint in hints {
            changed |= take_hint(&mut next, hint);
        }
        if changed {
            self.publish(next);
        }
        changed
    }

    fn is_usable(&self, name: &str) -> bool {
        let known = self.snapshot.topic(name);
        known.is_some_and(|topic| topic.is_usable())
    }

    fn interest(&mut self, now: Instant, name: &str) -> &mut Interest {
        self.started_at.get_or_insert(now);
        if !self.interests.contains_key(name) {
            let known = self.snapshot.topic(name);
            let interest = Interest {
                tracked: 0,
                waiting: 0,
                wished: false,
                wanted_at: now,
                asked: false,
                settled: known.is_some_and(|topic| is_settled(topic)),
                answered: 0,
            };
            // A string of its own: one from a response would keep the whole response in memory.
            self.interests.insert(Str::from(name.to_owned()), interest);
        }
        let interest = self.interests.get_mut(name);
        let interest = interest.expect("was inserted above if it was missing");
        interest.wanted_at = now;
        interest
    }

    /// When everything that is wished for is to be asked for again.
    fn full_due_at(&self, started_at: Instant) -> Instant {
        let Some(refreshed_at) = self.refreshed_at else {
            return started_at;
        };
        let by_age = refreshed_at + self.policy.max_age;
        if self.refresh_wanted {
            by_age.min(self.demand_after.unwrap_or(refreshed_at))
        } else {
            by_age
        }
    }

    fn is_rebootstrap_due(&self, now: Instant) -> bool {
        let Some(after) = self.policy.rebootstrap_after else {
            return false;
        };
        let long_unanswered = self
            .unanswered_since
            .is_some_and(|since| now.saturating_duration_since(since) >= after);
        self.rebootstrap_wanted || long_unanswered
    }

    fn forget_idle_topics(&mut self, now: Instant) {
        let max_idle = self.policy.max_idle;
        self.interests.retain(|_, interest| {
            let idle = now.saturating_duration_since(interest.wanted_at) >= max_idle;
            interest.tracked > 0 || interest.waiting > 0 || !idle
        });
    }

    fn publish(&mut self, mut next: Metadata) {
        next.generation += 1;
        next.names = next
            .topics
            .values()
            .filter(|topic| topic.id != Uuid::ZERO)
            .map(|topic| (topic.id, topic.name.clone()))
            .collect();
        self.snapshot = Arc::new(next);
    }

    fn take_cluster(&self, next: &mut Metadata, response: &MetadataResponse) -> bool {
        let brokers: BTreeMap<i32, Arc<Broker>> = response
            .brokers
            .iter()
            .filter_map(|broker| {
                let endpoint = Endpoint {
                    node: broker.node_id,
                    host: &broker.host,
                    port: broker.port,
                    rack: broker.rack.as_deref(),
                };
                Some((broker.node_id, endpoint.to_broker(&next.brokers)?))
            })
            .collect();
        let mut changed = false;
        if brokers != *next.brokers {
            next.brokers = Arc::new(brokers);
            changed = true;
        }
        let controller = (response.controller_id >= 0).then_some(response.controller_id);
        if next.controller != controller {
            next.controller = controller;
            changed = true;
        }
        if let Some(cluster_id) = &response.cluster_id
            && next.cluster_id.as_ref() != Some(cluster_id)
        {
            if let Some(before) = &next.cluster_id {
                tracing::warn!(%before, now = %cluster_id, "the brokers belong to another cluster now");
            }
            next.cluster_id = Some(Str::from(String::from(&**cluster_id)));
            changed = true;
        }
        changed
    }

    fn take_topic(&mut self, next: &mut Metadata, news: &MetadataResponseTopic) -> bool {
        let Some(name) = &news.name else {
            return false;
        };
        let known = next.topics.get(name);
        let topic = merge_topic(known.map(|topic| &**topic), name, news);
        if let Some(interest) = self.interests.get_mut(name) {
            interest.wished = false;
            interest.settled = is_settled(&topic);
            interest.answered = self.answers;
        }
        if known.is_some_and(|known| **known == topic) {
            return false;
        }
        next.topics.insert(topic.name.clone(), Arc::new(topic));
        true
    }

    /// After a full query: forgets topics that nobody wishes for, or that are gone.
    fn drop_unwanted(
        &mut self,
        next: &mut Metadata,
        query: &Query,
        response: &MetadataResponse,
    ) -> bool {
        let before = next.topics.len();
        if query.topics.is_some() {
            next.topics
                .retain(|name, _| self.interests.contains_key(name));
        } else {
            let listed: std::collections::HashSet<&str> = response
                .topics
                .iter()
                .filter_map(|topic| topic.name.as_deref())
                .collect();
            // A topic somebody cares for is asked for by name next, and gets an answer of its own: it is gone, or
            // this broker lags behind.
            for (name, interest) in &mut self.interests {
                interest.settled &= listed.contains(&**name);
            }
            next.topics
                .retain(|name, _| listed.contains(&**name) || self.interests.contains_key(name));
        }
        next.topics.len() != before
    }
}

impl Interest {
    /// Whether to ask about the topic again soon.
    fn is_open(&self) -> bool {
        !self.settled && (self.tracked > 0 || self.waiting > 0 || self.wished)
    }
}

/// Whether the brokers' answer leaves nothing to wait for.
fn is_settled(topic: &Topic) -> bool {
    topic.is_usable() || (topic.error.is_err() && !topic.error.is_retriable())
}

#[cfg(test)]
mod tests;
