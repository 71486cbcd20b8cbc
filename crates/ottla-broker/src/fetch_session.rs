//! Incremental fetch sessions (KIP-227): what a client fetches, remembered so that it need not say it each time.

use std::collections::HashMap;
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
        if self.by_id.len() >= SESSIONS_MAX || wanted.is_empty() {
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
        for topic in &request.forgotten_topics_data {
            session.wanted.retain(|wanted| {
                !(wanted.is_of(&topic.topic, topic.topic_id)
                    && topic.partitions.contains(&wanted.partition))
            });
        }
        for new in wanted(request) {
            let known = session.wanted.iter_mut().find(|known| {
                known.is_of(&new.topic, new.topic_id) && known.partition == new.partition
            });
            match known {
                Some(known) => {
                    *known = Wanted {
                        told: known.told,
                        ..new
                    }
                }
                None => session.wanted.push(new),
            }
        }
        Ok(Plan {
            session_id: id,
            incremental: true,
            wanted: session.wanted.clone(),
        })
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
        for (wanted, news) in served {
            let Some(news) = news else { continue };
            let place = session.wanted.iter().position(|known| {
                known.is_of(&wanted.topic, wanted.topic_id) && known.partition == wanted.partition
            });
            let Some(place) = place else { continue };
            session.wanted[place].told = Some(news.told);
            if news.has_data {
                let moved = session.wanted.remove(place);
                session.wanted.push(moved);
            }
        }
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
    fn is_of(&self, topic: &Str, topic_id: Uuid) -> bool {
        self.topic_id == topic_id && self.topic == *topic
    }

    /// Whether an incremental answer must mention the partition.
    pub(crate) fn is_news(&self, data: &PartitionData) -> bool {
        let news = PartitionNews::of(data);
        news.has_data
            || !data.error_code.is_ok()
            || data.diverging_epoch.epoch >= 0
            || self.told != Some(news.told)
    }
}

fn wanted(request: &FetchRequest) -> Vec<Wanted> {
    request
        .topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| Wanted {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partition: partition.partition,
                fetch_offset: partition.fetch_offset,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                max_bytes: partition.partition_max_bytes,
                told: None,
            })
        })
        .collect()
}

/// The epoch of a request outside any session; with a session's id it ends that session.
const FINAL_EPOCH: i32 = -1;

/// `max.incremental.fetch.session.cache.slots`
const SESSIONS_MAX: usize = 1000;

/// Above the limit, sessions unused for this long make place for new ones.
const IDLE_MAX: Duration = Duration::from_secs(120);
