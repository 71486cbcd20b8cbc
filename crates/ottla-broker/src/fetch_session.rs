//! Incremental fetch sessions (KIP-227): what a client fetches, remembered so that it need not say it each time.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use ottla_wire::messages::fetch::{FetchRequest, PartitionData};
use ottla_wire::{ErrorCode, Str, Uuid};

/// The sessions of all clients, by id.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    by_id: HashMap<i32, Session>,
}

#[derive(Debug)]
struct Session {
    /// The node that made the session; others do not know it.
    node: i32,
    /// The epoch that the next request must carry.
    next_epoch: i32,
    last_used: Instant,
    /// In the order in which they are served: who got data goes to the back.
    wanted: Vec<Wanted>,
}

/// One partition that a client fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: i32,
    /// High watermark, last stable offset and log start as last told; `None` before the first answer.
    told: Option<(i64, i64, i64)>,
}

/// What a request is, seen from its session.
#[derive(Debug)]
pub(crate) struct Plan {
    /// 0 outside any session.
    pub(crate) session_id: i32,
    /// Only partitions with news are answered.
    pub(crate) incremental: bool,
    pub(crate) wanted: Vec<Wanted>,
}

impl FetchSessions {
    /// Applies a request to its session and returns what is to be fetched.
    pub(crate) fn plan(
        &mut self,
        node: i32,
        request: &FetchRequest,
        now: Instant,
    ) -> Result<Plan, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        match epoch {
            FINAL_EPOCH => {
                self.by_id.remove(&id);
                Ok(Plan {
                    session_id: 0,
                    incremental: false,
                    wanted: wanted(request),
                })
            }
            0 => {
                self.by_id.remove(&id);
                Ok(self.create(node, wanted(request), now))
            }
            _ => self.resume(node, id, epoch, request, now),
        }
    }

    fn create(&mut self, node: i32, wanted: Vec<Wanted>, now: Instant) -> Plan {
        if self.by_id.len() >= SESSIONS_MAX {
            self.by_id
                .retain(|_, session| now - session.last_used < IDLE_MAX);
        }
        if self.by_id.len() >= SESSIONS_MAX || wanted.is_empty() || !self.has_room(wanted.len()) {
            return Plan {
                session_id: 0,
                incremental: false,
                wanted,
            };
        }
        let session_id = loop {
            let id = fastrand::i32(1..);
            if !self.by_id.contains_key(&id) {
                break id;
            }
        };
        let session = Session {
            node,
            next_epoch: 1,
            last_used: now,
            wanted: wanted.clone(),
        };
        self.by_id.insert(session_id, session);
        Plan {
            session_id,
            incremental: false,
            wanted,
        }
    }

    fn resume(
        &mut self,
        node: i32,
        id: i32,
        epoch: i32,
        request: &FetchRequest,
        now: Instant,
    ) -> Result<Plan, ErrorCode> {
        let session = self
            .by_id
            .get_mut(&id)
            .filter(|session| session.node == node)
            .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if epoch != session.next_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.last_used = now;
        let forgotten: HashSet<_> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|partition| (&*topic.topic, topic.topic_id, *partition))
            })
            .collect();
        if !forgotten.is_empty() {
            session
                .wanted
                .retain(|wanted| !forgotten.contains(&wanted.key()));
        }
        let changes = wanted(request);
        if !changes.is_empty() {
            session.wanted = merged(&session.wanted, changes);
        }
        let plan = Plan {
            session_id: id,
            incremental: true,
            wanted: session.wanted.clone(),
        };
        if !self.has_room(0) {
            // The client goes on with full requests.
            self.by_id.remove(&id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        Ok(plan)
    }

    /// Whether so many partitions more may be remembered.
    fn has_room(&self, more: usize) -> bool {
        let all: usize = self
            .by_id
            .values()
            .map(|session| session.wanted.len())
            .sum();
        all + more <= PARTITIONS_MAX
    }

    /// Notes what was answered: `served` says of each wanted partition, in the plan's order, what it was told
    /// and whether it got data.
    pub(crate) fn note_answer(
        &mut self,
        session_id: i32,
        served: &[(Wanted, Option<PartitionNews>)],
    ) {
        let Some(session) = self.by_id.get_mut(&session_id) else {
            return;
        };
        let news: HashMap<_, _> = served
            .iter()
            .filter_map(|(wanted, news)| Some((wanted.key(), (*news)?)))
            .collect();
        if news.is_empty() {
            return;
        }
        let (mut first, mut last) = (Vec::with_capacity(session.wanted.len()), Vec::new());
        for mut wanted in session.wanted.drain(..) {
            let Some(news) = news.get(&wanted.key()).copied() else {
                first.push(wanted);
                continue;
            };
            wanted.told = Some(news.told);
            if news.has_data {
                last.push(wanted);
            } else {
                first.push(wanted);
            }
        }
        first.append(&mut last);
        session.wanted = first;
    }

    /// Node `node` restarted: it knows no sessions any more.
    pub(crate) fn forget_node(&mut self, node: i32) {
        self.by_id.retain(|_, session| session.node != node);
    }
}

/// What a partition's answer said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionNews {
    told: (i64, i64, i64),
    has_data: bool,
}

impl PartitionNews {
    pub(crate) fn of(data: &PartitionData) -> Self {
        Self {
            told: (
                data.high_watermark,
                data.last_stable_offset,
                data.log_start_offset,
            ),
            has_data: data
                .records
                .as_ref()
                .is_some_and(|records| !records.is_empty()),
        }
    }
}

impl Wanted {
    fn key(&self) -> (&str, Uuid, i32) {
        (&self.topic, self.topic_id, self.partition)
    }

    /// Whether an incremental answer must mention the partition.
    pub(crate) fn is_news(&self, data: &PartitionData) -> bool {
        let news = PartitionNews::of(data);
        news.has_data
            || !data.error_code.is_ok()
            || data.diverging_epoch.epoch >= 0
            || data.preferred_read_replica >= 0
            || self.told != Some(news.told)
    }
}

/// What a request names, each partition once: the last that is said of it counts.
fn wanted(request: &FetchRequest) -> Vec<Wanted> {
    let all = request
        .topics
        .iter()
        .flat_map(|topic| {
            // A copy: a session must not keep the request's whole buffer.
            let name = Str::from(&*topic.topic);
            topic.partitions.iter().map(move |partition| Wanted {
                topic: name.clone(),
                topic_id: topic.topic_id,
                partition: partition.partition,
                fetch_offset: partition.fetch_offset,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                max_bytes: partition.partition_max_bytes,
                told: None,
            })
        })
        .collect();
    merged(&[], all)
}

/// `known` with `changes`: what is there already keeps its place and what it was told, the rest follows.
fn merged(known: &[Wanted], changes: Vec<Wanted>) -> Vec<Wanted> {
    let mut merged = known.to_vec();
    let mut places: HashMap<(Str, Uuid, i32), usize> = (0..)
        .zip(known)
        .map(|(place, wanted)| {
            (
                (wanted.topic.clone(), wanted.topic_id, wanted.partition),
                place,
            )
        })
        .collect();
    for change in changes {
        match places.entry((change.topic.clone(), change.topic_id, change.partition)) {
            Entry::Occupied(place) => {
                let known = &mut merged[*place.get()];
                *known = Wanted {
                    told: known.told,
                    ..change
                };
            }
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(change);
            }
        }
    }
    merged
}

/// The epoch of a request outside any session; with a session's id it ends that session.
const FINAL_EPOCH: i32 = -1;

/// `max.incremental.fetch.session.cache.slots`
const SESSIONS_MAX: usize = 1000;

/// What all sessions together may remember.
const PARTITIONS_MAX: usize = 200_000;

/// Above the limit, sessions unused for this long make place for new ones.
const IDLE_MAX: Duration = Duration::from_secs(120);
