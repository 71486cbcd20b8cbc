//! Listens in on a client's connections: what it asks coordinators and what it is told goes into the history, at the
//! moment in which the last byte of it passes.

mod share;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use ottla_wire::messages::{
    consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions},
    consumer_protocol_assignment::ConsumerProtocolAssignment,
    consumer_protocol_subscription::ConsumerProtocolSubscription,
    heartbeat::HeartbeatRequest,
    join_group::JoinGroupRequest,
    offset_commit::OffsetCommitRequest,
    offset_fetch::OffsetFetchRequest,
    sync_group::SyncGroupRequest,
};
use ottla_wire::{ApiKey, ErrorCode, decode_request, decode_response, decode_versioned};

use crate::history::{Beat, Beaten, Claims, History, Member, Part, Verdict, What};

/// A client, as the network sees it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Numbers the clients of a run.
    pub(crate) client: u32,
    member: AtomicU32,
    /// Who joined last, under which member id and in which generation.
    joined: Mutex<Option<(Member, String, i32)>>,
    dead: AtomicBool,
}

impl Seat {
    pub(crate) fn new(client: u32) -> Arc<Self> {
        Arc::new(Self {
            client,
            member: AtomicU32::new(0),
            joined: Mutex::default(),
            dead: AtomicBool::new(false),
        })
    }

    /// From now on this client's consumer is this member.
    pub(crate) fn be(&self, member: Member) {
        self.member.store(member, Ordering::Relaxed);
    }

    /// The client vanishes: nothing leaves or reaches it any more.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn member(&self) -> Member {
        self.member.load(Ordering::Relaxed)
    }

    fn has_joined(&self, member: Member, id: &str, generation: i32) {
        *self.joined() = Some((member, id.to_owned(), generation));
    }

    /// Who it was when it joined this generation: what it asks for then may leave when it is somebody else.
    fn member_of(&self, id: &str, generation: i32) -> Member {
        match &*self.joined() {
            Some((member, joined_as, of)) if joined_as == id && *of == generation => *member,
            _ => self.member(),
        }
    }

    fn joined(&self) -> MutexGuard<'_, Option<(Member, String, i32)>> {
        // A panic while it was held would have ended the run.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to one connection.
#[derive(Debug)]
pub(crate) struct Tap {
    seat: Arc<Seat>,
    node: i32,
    history: Arc<History>,
    outbound: Frames,
    inbound: Frames,
    /// Since when the client has had something to send all the time.
    busy_since_ms: u64,
    last_left_ms: Option<u64>,
    /// What was asked and not answered, by correlation id.
    open: BTreeMap<i32, Question>,
}

#[derive(Debug)]
struct Question {
    api: ApiKey,
    version: i16,
    sent_ms: u64,
    /// It may have been waiting to leave since then.
    queued_ms: u64,
    member: Member,
    generation: i32,
    /// Of a commit or a question for committed offsets.
    number: u64,
    /// Of a join.
    claims: Claims,
    /// Under which member id.
    id: String,
}

impl Question {
    fn is_rebalancing(&self) -> bool {
        matches!(self.api, ApiKey::JoinGroup | ApiKey::SyncGroup)
    }
}

impl Tap {
    pub(crate) fn new(seat: Arc<Seat>, node: i32, history: Arc<History>) -> Self {
        Self {
            seat,
            node,
            busy_since_ms: history.now_ms(),
            history,
            outbound: Frames::default(),
            inbound: Frames::default(),
            last_left_ms: None,
            open: BTreeMap::new(),
        }
    }

    /// The client has bytes that want to leave. What lies behind them waits, too, and nobody here sees it.
    pub(crate) fn hear_waiting(&mut self) {
        let now_ms = self.history.now_ms();
        let goes_on = self.last_left_ms.is_none_or(|left_ms| left_ms == now_ms);
        if !goes_on {
            self.busy_since_ms = now_ms;
        }
        self.last_left_ms = None;
    }

    /// These bytes left the client.
    pub(crate) fn hear_outbound(&mut self, bytes: &[u8]) {
        self.last_left_ms = Some(self.history.now_ms());
        self.outbound.buffer.extend_from_slice(bytes);
        while let Some(frame) = self.outbound.next() {
            // What the client sends can be read, or the broker will say so.
            let _ = self.request(frame);
        }
    }

    /// These bytes reached the client.
    pub(crate) fn hear_inbound(&mut self, bytes: &[u8]) {
        self.inbound.buffer.extend_from_slice(bytes);
        while let Some(frame) = self.inbound.next() {
            let _ = self.response(frame);
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.seat.is_dead()
    }

    /// Whether a frame has begun to pass and not ended.
    pub(crate) fn is_in_frame(&self, inbound: bool) -> bool {
        let frames = if inbound {
            &self.inbound
        } else {
            &self.outbound
        };
        !frames.buffer.is_empty()
    }

    fn request(&mut self, frame: Bytes) -> Option<()> {
        let mut head = frame.clone();
        if head.len() < 8 {
            return None;
        }
        let api = ApiKey::try_from(head.get_i16()).ok()?;
        let version = head.get_i16();
        let correlation = head.get_i32();
        let member = self.seat.member();
        let mut question = Question {
            api,
            version,
            sent_ms: self.history.now_ms(),
            queued_ms: self.busy_since_ms,
            member,
            generation: -1,
            number: 0,
            claims: Claims::default(),
            id: String::new(),
        };
        self.history.record(What::Sent {
            client: self.seat.client,
            node: self.node,
            api: api.name(),
            correlation,
        });
        match api {
            ApiKey::Heartbeat => {
                let (_, request) = decode_request::<HeartbeatRequest>(frame).ok()?;
                question.generation = request.generation_id;
                question.id = request.member_id.to_string();
            }
            ApiKey::JoinGroup => {
                let (_, request) = decode_request::<JoinGroupRequest>(frame).ok()?;
                let protocol = request.protocols.into_iter().next()?;
                question.claims = claims(protocol.metadata)?;
                question.generation = question.claims.generation;
                question.id = request.member_id.to_string();
                self.history.record(What::Joins {
                    member,
                    queued_ms: question.queued_ms,
                    id: question.id.clone(),
                    claims: question.claims.clone(),
                });
            }
            ApiKey::SyncGroup => {
                let (_, request) = decode_request::<SyncGroupRequest>(frame).ok()?;
                question.generation = request.generation_id;
                question.id = request.member_id.to_string();
                question.member = self.seat.member_of(&question.id, question.generation);
            }
            ApiKey::LeaveGroup => self.history.record(What::Left { member }),
            ApiKey::OffsetCommit => {
                let (_, request) = decode_request::<OffsetCommitRequest>(frame).ok()?;
                question.generation = request.generation_id_or_member_epoch;
                question.number = self.history.new_number();
                question.id = request.member_id.to_string();
                let offsets = request.topics.iter().flat_map(|topic| {
                    let offset =
                        |p: &ottla_wire::messages::offset_commit::OffsetCommitRequestPartition| {
                            Some((
                                Part::named(&topic.name, p.partition_index)?,
                                p.committed_offset,
                            ))
                        };
                    topic.partitions.iter().filter_map(offset)
                });
                self.history.record(What::CommitSent {
                    member,
                    number: question.number,
                    id: question.id.clone(),
                    offsets: offsets.collect(),
                });
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let (_, request) = decode_request::<ConsumerGroupHeartbeatRequest>(frame).ok()?;
                question.generation = request.member_epoch;
                question.number = self.history.new_number();
                question.id = request.member_id.to_string();
                let owned = request.topic_partitions.as_ref();
                self.history.record(What::Beats(Beat {
                    member,
                    number: question.number,
                    queued_ms: question.queued_ms,
                    id: question.id.clone(),
                    epoch: request.member_epoch,
                    full: request.rebalance_timeout_ms >= 0,
                    owned: owned.map(|topics| self.parts(topics)),
                }));
            }
            ApiKey::OffsetFetch => {
                question.number = self.history.new_number();
                self.history.record(What::Asked {
                    member,
                    number: question.number,
                });
            }
            _ => {
                self.share_request(&mut question, frame);
            }
        }
        self.open.insert(correlation, question);
        Some(())
    }

    fn response(&mut self, frame: Bytes) -> Option<()> {
        let mut head = frame.clone();
        if head.len() < 4 {
            return None;
        }
        let correlation = head.get_i32();
        let question = self.open.remove(&correlation)?;
        let (version, member) = (question.version, question.member);
        let (mut error, mut events) = (ErrorCode::NONE, Vec::new());
        match question.api {
            ApiKey::Heartbeat => {
                let answer = decode_response::<HeartbeatRequest>(version, frame).ok()?;
                error = answer.error_code;
                match error {
                    ErrorCode::NONE => events.push(What::Confirmed {
                        member,
                        generation: question.generation,
                        sent_ms: question.sent_ms,
                    }),
                    error => events.extend(self.told(&question, error)),
                }
            }
            ApiKey::JoinGroup => {
                let answer = decode_response::<JoinGroupRequest>(version, frame).ok()?;
                error = answer.error_code;
                if error.is_ok() {
                    self.seat
                        .has_joined(member, &answer.member_id, answer.generation_id);
                    events.push(What::Joined {
                        member,
                        generation: answer.generation_id,
                        id: answer.member_id.to_string(),
                        claims: question.claims.clone(),
                    });
                }
                events.extend(self.told(&question, error));
            }
            ApiKey::SyncGroup => {
                let answer = decode_response::<SyncGroupRequest>(version, frame).ok()?;
                error = answer.error_code;
                if error.is_ok() {
                    events.push(What::Synced {
                        member,
                        generation: question.generation,
                        sent_ms: question.sent_ms,
                        parts: assigned(answer.assignment),
                        heeded: self.is_heeded(&question),
                    });
                }
                events.extend(self.told(&question, error));
            }
            ApiKey::OffsetCommit => {
                let answer = decode_response::<OffsetCommitRequest>(version, frame).ok()?;
                let topics = answer.topics.iter();
                let mut stored = Vec::new();
                for (topic, answer) in topics.flat_map(|topic| {
                    let partitions = topic.partitions.iter();
                    partitions.map(|partition| (&topic.name, partition))
                }) {
                    match answer.error_code {
                        ErrorCode::NONE => {
                            stored.extend(Part::named(topic, answer.partition_index));
                        }
                        refused if error.is_ok() => error = refused,
                        _ => {}
                    }
                }
                events.push(What::CommitAnswered {
                    number: question.number,
                    stored,
                });
                events.extend(self.told(&question, error));
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let answer =
                    decode_response::<ConsumerGroupHeartbeatRequest>(version, frame).ok()?;
                error = answer.error_code;
                let assignment = answer.assignment.as_ref();
                events.push(What::Beaten(Beaten {
                    member,
                    number: question.number,
                    id: question.id.clone(),
                    asked: question.generation,
                    sent_ms: question.sent_ms,
                    error: error.0,
                    epoch: answer.member_epoch,
                    assignment: assignment.map(|given| self.parts(&given.topic_partitions)),
                    heeded: self.is_heeded(&question),
                }));
            }
            ApiKey::OffsetFetch => {
                let answer = decode_response::<OffsetFetchRequest>(version, frame).ok()?;
                // The embedded broker speaks version 8, in which groups are asked for (KIP-709).
                let group = answer.groups.first()?;
                let topics = group.topics.iter();
                let partitions =
                    topics.flat_map(|topic| topic.partitions.iter().map(|p| (&topic.name, p)));
                error = group.error_code;
                // One partition that cannot be told yet makes the client ask for all of them again.
                let all: Vec<_> = partitions.collect();
                let fine = error.is_ok() && all.iter().all(|(_, p)| p.error_code.is_ok());
                for (topic, answer) in all.into_iter().filter(|_| fine) {
                    let Some(part) = Part::named(topic, answer.partition_index) else {
                        continue;
                    };
                    let offset = answer.committed_offset;
                    events.push(What::Committed {
                        member,
                        number: question.number,
                        part,
                        offset: (offset >= 0).then_some(offset),
                    });
                }
            }
            _ => {
                if let Some((told, event)) = self.share_response(&question, frame) {
                    error = told;
                    events.push(event);
                }
            }
        }
        self.history.record(What::Got {
            client: self.seat.client,
            node: self.node,
            api: question.api.name(),
            correlation,
            error: error.0,
        });
        for event in events {
            self.history.record(event);
        }
        Some(())
    }

    /// What the coordinator names by the ids of topics.
    fn parts(&self, topics: &[TopicPartitions]) -> Vec<Part> {
        let part = |topic: &TopicPartitions, partition: &i32| {
            self.history.part(topic.topic_id, *partition)
        };
        let parts = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.filter_map(move |partition| part(topic, partition))
        });
        let mut parts: Vec<Part> = parts.collect();
        parts.sort_unstable();
        parts
    }

    /// What the member must heed, if it still waited for the answer.
    fn told(&self, question: &Question, error: ErrorCode) -> Option<What> {
        let against = matches!(
            error,
            ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::FENCED_INSTANCE_ID
                | ErrorCode::REBALANCE_IN_PROGRESS
        );
        against.then(|| What::Told {
            member: question.member,
            id: question.id.clone(),
            verdict: Verdict {
                generation: question.generation,
                error: error.0,
                rebalancing: question.is_rebalancing(),
            },
            heeded: self.is_heeded(question),
        })
    }

    /// Whether somebody surely still waits for the answer.
    fn is_heeded(&self, question: &Question) -> bool {
        let patience_ms = match question.is_rebalancing() {
            true => REBALANCE_HEEDED_MS,
            false => HEEDED_MS,
        };
        self.history.now_ms() - question.queued_ms < patience_ms
    }
}

fn assigned(assignment: Bytes) -> Vec<Part> {
    let Ok((_, assignment)) = decode_versioned::<ConsumerProtocolAssignment>(assignment) else {
        return Vec::new();
    };
    let topics = assignment.assigned_partitions.iter();
    topics
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.filter_map(|partition| Part::named(&topic.topic, *partition))
        })
        .collect()
}

/// What a member says that it has. None if it cannot be read, as the group's leader could not.
fn claims(subscription: Bytes) -> Option<Claims> {
    let (_, subscription) = decode_versioned::<ConsumerProtocolSubscription>(subscription).ok()?;
    let topics = subscription.owned_partitions.iter();
    let parts = topics.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.filter_map(|partition| Part::named(&topic.topic, *partition))
    });
    Some(Claims {
        parts: parts.collect(),
        generation: subscription.generation_id,
    })
}

/// One direction's bytes, until they make a frame.
#[derive(Debug, Default)]
struct Frames {
    buffer: BytesMut,
}

impl Frames {
    fn next(&mut self) -> Option<Bytes> {
        let mut length = self.buffer.get(..4)?;
        let length = usize::try_from(length.get_i32()).ok()?;
        if self.buffer.len() < 4 + length {
            return None;
        }
        self.buffer.advance(4);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// An answer that comes later may meet nobody who waits for it.
const HEEDED_MS: u64 = 1_500;

/// The same of a join or sync, for which members wait as long as the longest rebalance may take.
const REBALANCE_HEEDED_MS: u64 = 9_000;
