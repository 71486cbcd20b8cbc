//! The fetch session with one broker (KIP-227): the broker remembers which partitions are fetched,
//! and a request names only what changed since the last one.
//!
//! Told what is wanted with [`FetchSession::set`]; says what to send. One request at a time: the
//! session's epoch counts requests, and an answer changes what the next one asks for. Anything
//! unexpected falls back to naming everything, which is always right and only costs bytes.

use std::collections::{HashMap, hash_map};

use ottla_wire::{ErrorCode, Uuid};

use super::Token;
use crate::{Str, TopicPartition};

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) token: Token,
    /// Zero if the metadata carries none.
    pub(crate) topic_id: Uuid,
    pub(crate) offset: i64,
    /// The epoch of the leader that metadata names; -1 if unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) bytes_max: i32,
    /// Whether its reader must hear of the log's ends even if nothing is new there for whoever read the partition before.
    pub(crate) afresh: bool,
}

/// The part of a Fetch request that the session decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    /// Whether topics go by their id.
    pub(crate) by_id: bool,
    pub(crate) partitions: Vec<(TopicPartition, Want)>,
    pub(crate) forgotten: Vec<(TopicPartition, Uuid)>,
}

#[derive(Debug, Default)]
pub(crate) struct FetchSession {
    /// 0: the broker has no session of ours.
    id: i32,
    /// 0: the next request names everything. The broker ends the session `id`, if any.
    epoch: i32,
    by_id: bool,
    partitions: HashMap<TopicPartition, Entry>,
    /// Partitions for which `want` may differ from `held`; no duplicates (see [`Entry::listed`]).
    changed: Vec<TopicPartition>,
    /// How many entries have a `want`.
    wanted: usize,
    /// Names of the topics that went out by id.
    names: HashMap<Uuid, Str>,
    /// Counts full requests; where each starts, so that no partition always comes last.
    turn: usize,
}

impl FetchSession {
    /// From now on, `partition` is to be fetched like this, or not at all.
    pub(crate) fn set(&mut self, partition: &TopicPartition, want: Option<Want>) {
        let entry = match self.partitions.entry(partition.clone()) {
            hash_map::Entry::Vacant(_) if want.is_none() => return,
            hash_map::Entry::Vacant(vacant) => vacant.insert(Entry::default()),
            hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        self.wanted += usize::from(want.is_some());
        self.wanted -= usize::from(entry.want.is_some());
        entry.want = want;
        if !entry.listed {
            entry.listed = true;
            self.changed.push(partition.clone());
        }
    }

    /// How many partitions are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// The next request. `ids`: whether the version spoken has topic ids. Call it only when the
    /// last one was answered or failed.
    pub(crate) fn next_request(&mut self, ids: bool) -> SessionRequest {
        let by_id = ids
            && self
                .partitions
                .values()
                .all(|e| e.want.is_none_or(|w| w.topic_id != Uuid::ZERO));
        if by_id != self.by_id {
            // A session keeps the kind of name it was opened with.
            self.by_id = by_id;
            self.epoch = 0;
        }
        if self.starts_afresh() {
            self.epoch = 0;
        }
        let mut request = SessionRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            by_id,
            partitions: Vec::new(),
            forgotten: Vec::new(),
        };
        if self.epoch == 0 {
            self.name_everything(&mut request);
        } else {
            self.name_changes(&mut request);
        }
        if by_id {
            for (partition, want) in &request.partitions {
                self.names
                    .entry(want.topic_id)
                    .or_insert_with(|| partition.topic.clone());
            }
        }
        request
    }

    /// Whether a partition is to be heard of that the broker thinks it has told all about: an answer names none without
    /// news, and asking from another offset makes no news. All that a new session names is new.
    fn starts_afresh(&self) -> bool {
        self.changed.iter().any(|partition| {
            let entry = self.partitions.get(partition);
            let both = entry.and_then(|entry| entry.held.zip(entry.want));
            both.is_some_and(|(held, want)| want.afresh && want.token != held.token)
        })
    }

    /// An answer came. Says whether its partitions count; if not, the next request starts anew.
    pub(crate) fn handle_answer(&mut self, error: ErrorCode, session_id: i32) -> bool {
        if error == ErrorCode::NONE {
            if session_id <= 0 {
                // The broker has no room for sessions, or ended this one: everything is named
                // each time, until it offers one.
                self.id = 0;
                self.epoch = 0;
            } else if self.epoch == 0 {
                self.id = session_id;
                self.epoch = 1;
            } else if session_id == self.id {
                self.epoch = if self.epoch == i32::MAX {
                    1
                } else {
                    self.epoch + 1
                };
            } else {
                self.restart();
            }
            return true;
        }
        if error == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
            self.id = 0;
        }
        self.restart();
        false
    }

    /// No answer came, or none that makes sense: the broker may or may not have seen the request.
    pub(crate) fn restart(&mut self) {
        // With its id and epoch 0, a request ends the session and opens another.
        self.epoch = 0;
    }

    /// What was asked of a partition that an answer names, by topic name or by id.
    pub(crate) fn asked(
        &self,
        topic: &Str,
        id: Uuid,
        partition: i32,
    ) -> Option<(&TopicPartition, Want)> {
        let topic = if self.by_id {
            self.names.get(&id)?
        } else {
            topic
        };
        let partition = TopicPartition {
            topic: topic.clone(),
            partition,
        };
        let (partition, entry) = self.partitions.get_key_value(&partition)?;
        let held = entry.held?;
        (!self.by_id || held.topic_id == id).then_some((partition, held))
    }

    fn name_everything(&mut self, request: &mut SessionRequest) {
        self.changed.clear();
        self.names.clear();
        self.partitions.retain(|_, entry| {
            entry.listed = false;
            entry.held = entry.want;
            entry.want.is_some()
        });
        request.partitions = self
            .partitions
            .iter()
            .filter_map(|(partition, entry)| entry.held.map(|want| (partition.clone(), want)))
            .collect();
        request
            .partitions
            .sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if !request.partitions.is_empty() {
            self.turn = (self.turn + 1) % request.partitions.len();
            request.partitions.rotate_left(self.turn);
        }
    }

    fn name_changes(&mut self, request: &mut SessionRequest) {
        for partition in self.changed.drain(..) {
            let Some(entry) = self.partitions.get_mut(&partition) else {
                continue;
            };
            entry.listed = false;
            let (want, held) = (entry.want, entry.held);
            entry.held = want;
            // The broker takes in new partitions before it forgets: one that stays must not be
            // among the forgotten, one whose topic was created anew must.
            if let Some(held) = held
                && want.is_none_or(|want| want.topic_id != held.topic_id)
            {
                request.forgotten.push((partition.clone(), held.topic_id));
            }
            match want {
                // The token is ours; the broker need not hear of a new one.
                Some(want)
                    if held.is_none_or(|held| {
                        held != Want {
                            token: held.token,
                            afresh: held.afresh,
                            ..want
                        }
                    }) =>
                {
                    request.partitions.push((partition, want));
                }
                Some(_) => {}
                None => {
                    self.partitions.remove(&partition);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// What is to be asked.
    want: Option<Want>,
    /// What the broker was asked last, in the request that is out or was answered last.
    held: Option<Want>,
    /// Whether it is in [`FetchSession::changed`].
    listed: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn want(offset: i64) -> Want {
        Want {
            token: Token {
                slot: 0,
                generation: 0,
            },
            topic_id: Uuid([7; 16]),
            offset,
            leader_epoch: 3,
            bytes_max: 1 << 20,
            afresh: false,
        }
    }

    fn named(request: &SessionRequest) -> Vec<(i32, i64)> {
        let mut named: Vec<_> = request
            .partitions
            .iter()
            .map(|(p, w)| (p.partition, w.offset))
            .collect();
        named.sort_unstable();
        named
    }

    fn forgotten(request: &SessionRequest) -> Vec<i32> {
        request.forgotten.iter().map(|(p, _)| p.partition).collect()
    }

    fn opened(partitions: i32) -> FetchSession {
        let mut session = FetchSession::default();
        for partition in 0..partitions {
            session.set(&tp(partition), Some(want(0)));
        }
        session.next_request(true);
        assert!(session.handle_answer(ErrorCode::NONE, 99));
        session
    }

    #[test]
    fn first_everything_then_changes_only() {
        let mut session = FetchSession::default();
        session.set(&tp(0), Some(want(10)));
        session.set(&tp(1), Some(want(20)));
        let first = session.next_request(true);
        assert_eq!((first.session_id, first.session_epoch), (0, 0));
        assert_eq!(named(&first), [(0, 10), (1, 20)]);
        assert!(session.handle_answer(ErrorCode::NONE, 99));

        session.set(&tp(1), Some(want(25)));
        let second = session.next_request(true);
        assert_eq!((second.session_id, second.session_epoch), (99, 1));
        assert_eq!(named(&second), [(1, 25)]);
        assert!(session.handle_answer(ErrorCode::NONE, 99));

        let idle = session.next_request(true);
        assert_eq!((idle.session_epoch, idle.partitions.len()), (2, 0));
        assert!(
            session.asked(&"".into(), Uuid([7; 16]), 0).is_some(),
            "held by the session"
        );
    }

    #[test]
    fn partitions_that_left_are_forgotten_once() {
        let mut session = opened(3);
        session.set(&tp(1), None);
        assert_eq!(forgotten(&session.next_request(true)), [1]);
        session.handle_answer(ErrorCode::NONE, 99);
        assert!(session.asked(&"".into(), Uuid([7; 16]), 1).is_none());
        let next = session.next_request(true);
        assert!(next.forgotten.is_empty() && next.partitions.is_empty());
    }

    #[test]
    fn one_that_left_and_came_back_is_not_forgotten() {
        let mut session = opened(2);
        session.set(&tp(1), None);
        session.set(&tp(1), Some(want(5)));
        let request = session.next_request(true);
        assert_eq!(
            (forgotten(&request), named(&request)),
            (vec![], vec![(1, 5)])
        );
    }

    #[test]
    fn a_topic_created_anew_replaces_the_old_one() {
        let mut session = opened(1);
        session.set(
            &tp(0),
            Some(Want {
                topic_id: Uuid([8; 16]),
                ..want(0)
            }),
        );
        let request = session.next_request(true);
        assert_eq!(request.forgotten, [(tp(0), Uuid([7; 16]))]);
        assert_eq!(named(&request), [(0, 0)]);
        assert!(session.asked(&"".into(), Uuid([7; 16]), 0).is_none());
        assert!(session.asked(&"".into(), Uuid([8; 16]), 0).is_some());
    }

    #[test]
    fn an_unknown_session_starts_anew() {
        for (error, id) in [
            (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0),
            (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 99),
            (ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR, 99),
        ] {
            let mut session = opened(2);
            session.next_request(true);
            assert!(!session.handle_answer(error, 0));
            let request = session.next_request(true);
            assert_eq!(
                (request.session_id, request.session_epoch),
                (id, 0),
                "{error:?}"
            );
            assert_eq!(request.partitions.len(), 2);
        }
    }

    #[test]
    fn a_broker_without_sessions_is_told_everything_each_time() {
        let mut session = FetchSession::default();
        session.set(&tp(0), Some(want(0)));
        session.set(&tp(1), Some(want(0)));
        for _ in 0..3 {
            let request = session.next_request(true);
            assert_eq!((request.session_id, request.session_epoch), (0, 0));
            assert_eq!(request.partitions.len(), 2);
            assert!(session.handle_answer(ErrorCode::NONE, 0));
        }
    }

    #[test]
    fn one_topic_without_id_makes_all_go_by_name() {
        let mut session = opened(1);
        session.set(
            &tp(1),
            Some(Want {
                topic_id: Uuid::ZERO,
                ..want(0)
            }),
        );
        let request = session.next_request(true);
        assert_eq!(
            (request.session_id, request.session_epoch, request.by_id),
            (99, 0, false)
        );
        assert_eq!(request.partitions.len(), 2);
        assert!(session.asked(&"t".into(), Uuid::ZERO, 1).is_some());
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = opened(1);
        session.epoch = i32::MAX;
        session.handle_answer(ErrorCode::NONE, 99);
        assert_eq!(session.epoch, 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(i32, Option<i64>),
        Exchange,
        Lost { seen: bool },
        Evicted,
        NoRoom,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..4_i32, prop::option::weighted(0.7, 0..9_i64)).prop_map(|(p, o)| Step::Set(p, o)),
            4 => Just(Step::Exchange),
            1 => any::<bool>().prop_map(|seen| Step::Lost { seen }),
            1 => Just(Step::Evicted),
            1 => Just(Step::NoRoom),
        ]
    }

    /// A broker's side of sessions, by the book.
    #[derive(Default)]
    struct Broker {
        session: Option<(i32, i32, HashMap<TopicPartition, i64>)>,
        ids: i32,
    }

    impl Broker {
        /// Error, session id, and what is fetched.
        fn fetch(
            &mut self,
            request: &SessionRequest,
            room: bool,
        ) -> (ErrorCode, i32, HashMap<TopicPartition, i64>) {
            let named = request
                .partitions
                .iter()
                .map(|(p, w)| (p.clone(), w.offset));
            if request.session_epoch == 0 {
                let all: HashMap<_, _> = named.collect();
                self.session = None;
                if !room {
                    return (ErrorCode::NONE, 0, all);
                }
                self.ids += 1;
                self.session = Some((self.ids, 1, all.clone()));
                return (ErrorCode::NONE, self.ids, all);
            }
            match &mut self.session {
                Some((id, _, _)) if *id != request.session_id => {
                    (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0, HashMap::new())
                }
                None => (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0, HashMap::new()),
                Some((_, epoch, _)) if *epoch != request.session_epoch => {
                    (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0, HashMap::new())
                }
                Some((id, epoch, held)) => {
                    *epoch += 1;
                    held.extend(named);
                    for (partition, _) in &request.forgotten {
                        held.remove(partition);
                    }
                    (ErrorCode::NONE, *id, held.clone())
                }
            }
        }
    }

    proptest! {
        /// Whatever is lost or evicted, each exchange that counts fetches exactly what is wanted.
        #[test]
        fn the_broker_fetches_what_is_wanted(steps in prop::collection::vec(step(), 1..60)) {
            let mut session = FetchSession::default();
            let mut broker = Broker::default();
            let mut wanted: HashMap<TopicPartition, i64> = HashMap::new();
            for step in steps {
                match step {
                    Step::Set(partition, offset) => {
                        session.set(&tp(partition), offset.map(want));
                        match offset {
                            Some(offset) => wanted.insert(tp(partition), offset),
                            None => wanted.remove(&tp(partition)),
                        };
                        prop_assert_eq!(session.wanted(), wanted.len());
                    }
                    Step::Exchange | Step::NoRoom => {
                        let request = session.next_request(true);
                        let room = matches!(step, Step::Exchange);
                        let (error, id, fetched) = broker.fetch(&request, room);
                        if session.handle_answer(error, id) {
                            prop_assert_eq!(&fetched, &wanted);
                            for partition in fetched.keys() {
                                let asked =
                                    session.asked(&"".into(), Uuid([7; 16]), partition.partition);
                                prop_assert!(asked.is_some());
                            }
                        }
                    }
                    Step::Lost { seen } => {
                        let request = session.next_request(true);
                        if seen {
                            broker.fetch(&request, true);
                        }
                        session.restart();
                    }
                    Step::Evicted => broker.session = None,
                }
            }
        }
    }
}
