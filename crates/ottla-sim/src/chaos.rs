//! What happens to the cluster while clients use it: leaders move, nodes crash and come back, replies are lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use ottla_broker::{Fault, Rule};
use ottla_wire::{ApiKey, ErrorCode};
use tokio::time::Instant;

use crate::faults::{FaultKind, Faults};
use crate::history::{Part, What};
use crate::world::World;

/// Whether faults happen, and the seed they come from.
#[derive(Debug)]
pub(crate) struct Weather {
    fair: AtomicBool,
    rng: Mutex<Rng>,
    /// Nodes that nothing reaches, and until when.
    cut_off: Mutex<BTreeMap<i32, Instant>>,
    faults: Arc<Faults>,
}

impl Weather {
    pub(crate) fn new(seed: u64, faults: Arc<Faults>) -> Self {
        Self {
            fair: AtomicBool::new(false),
            rng: Mutex::new(Rng::with_seed(seed)),
            cut_off: Mutex::default(),
            faults,
        }
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn clear_up(&self) {
        self.fair.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_fair(&self) -> bool {
        self.fair.load(Ordering::Relaxed)
    }

    /// A source of randomness of its own for one more part of the world.
    pub(crate) fn fork(&self) -> Rng {
        lock(&self.rng).fork()
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Until when nothing reaches the node.
    pub(crate) fn cut_off_until(&self, node: i32) -> Option<Instant> {
        let until = lock(&self.cut_off).get(&node).copied()?;
        (until > Instant::now()).then_some(until)
    }

    fn cut_off(&self, node: i32, until: Instant) {
        lock(&self.cut_off).insert(node, until);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while it was held would have ended the run.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What there is to harm.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    pub(crate) parts: Vec<Part>,
    pub(crate) groups: Vec<String>,
    /// Whether the beginnings of logs are deleted now and then.
    pub(crate) delete_records: bool,
    /// What else goes wrong, as often as what always does.
    pub(crate) apis: &'static [ApiKey],
}

/// Harms the cluster for `duration`, then repairs it: every node is up and no rule is left.
pub(crate) async fn harm(world: &World, targets: &Targets, duration: Duration) {
    let (cluster, weather, history) = (&world.cluster, &world.weather, &world.history);
    let mut rng = weather.fork();
    let end = Instant::now() + duration;
    let nodes = cluster.node_ids();
    let strike = |kind: FaultKind, what: String| {
        weather.faults().note(kind);
        history.record(What::Fault(kind));
        history.note(what);
    };
    let all_led = || {
        for part in &targets.parts {
            history.record(What::Led { part: *part });
        }
    };
    let mut down = None;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(rng.u64(1..1500))).await;
        match rng.u32(0..12) {
            0..=2 => {
                let (Some(part), Some(node)) = (rng.choice(&targets.parts), rng.choice(&nodes))
                else {
                    continue;
                };
                // Refused when that node is down, which is as good as another fault.
                if cluster
                    .move_leader(&part.topic_name(), part.partition, *node)
                    .is_ok()
                {
                    history.record(What::Led { part: *part });
                    strike(
                        FaultKind::LeaderMoved,
                        format!("{part} is led by node {node}"),
                    );
                }
            }
            3 => match down.take() {
                None if nodes.len() > 1 => {
                    let Some(node) = rng.choice(&nodes).copied() else {
                        continue;
                    };
                    if cluster.stop_node(node).await.is_ok() {
                        all_led();
                        strike(FaultKind::NodeCrashed, format!("node {node}"));
                        down = Some(node);
                    }
                }
                None => {}
                Some(node) => {
                    let Ok(()) = cluster.start_node(node).await else {
                        continue;
                    };
                    all_led();
                    strike(FaultKind::NodeRestarted, format!("node {node}"));
                }
            },
            4 => {
                let (Some(group), Some(node)) = (rng.choice(&targets.groups), rng.choice(&nodes))
                else {
                    continue;
                };
                cluster.move_coordinator(group, *node);
                strike(
                    FaultKind::CoordinatorMoved,
                    format!("{group} is coordinated by node {node}"),
                );
            }
            5 => {
                let Some(node) = rng.choice(&nodes) else {
                    continue;
                };
                let longest = if rng.u32(0..4) == 0 { 30_000 } else { 3_000 };
                let length = Duration::from_millis(rng.u64(1..longest));
                weather.cut_off(*node, Instant::now() + length);
                strike(
                    FaultKind::Partition,
                    format!("nothing reaches node {node} for {length:?}"),
                );
            }
            6 if targets.delete_records => {
                let Some(part) = rng.choice(&targets.parts).copied() else {
                    continue;
                };
                if let Some(offset) = world.delete_some_records(part, &mut rng) {
                    strike(
                        FaultKind::RecordsDeleted,
                        format!("{part} starts at {offset}"),
                    );
                }
            }
            _ => {
                let apis = match !targets.apis.is_empty() && rng.bool() {
                    true => targets.apis,
                    false => APIS,
                };
                cluster.inject(rule(apis, &mut rng));
            }
        }
    }
    if let Some(node) = down
        && cluster.start_node(node).await.is_ok()
    {
        all_led();
        strike(FaultKind::NodeRestarted, format!("node {node}"));
    }
    cluster.clear_faults();
    weather.clear_up();
    history.note("from here on the weather is fair");
}

fn rule(apis: &[ApiKey], rng: &mut Rng) -> Rule {
    let api = rng.choice(apis).copied().unwrap_or(ApiKey::Produce);
    let fault = match rng.u32(0..6) {
        0 => Fault::Delay(Duration::from_millis(rng.u64(1..3000))),
        1 => Fault::Drop,
        2 => Fault::Disconnect,
        3 => Fault::LoseReply,
        4 => Fault::TearReply(rng.usize(0..40)),
        _ => Fault::Answer(error(api, rng)),
    };
    Rule {
        api,
        node: None,
        skip: rng.u64(0..4),
        times: rng.u64(1..4),
        fault,
    }
}

/// An error that a broker may answer to this request in a bad hour, and that a client must survive.
fn error(api: ApiKey, rng: &mut Rng) -> ErrorCode {
    let codes: &[ErrorCode] = match api {
        ApiKey::Produce => &[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_ENOUGH_REPLICAS,
            ErrorCode::LEADER_NOT_AVAILABLE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ],
        ApiKey::Fetch => &[
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        ],
        ApiKey::ListOffsets | ApiKey::OffsetForLeaderEpoch => &[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::LEADER_NOT_AVAILABLE,
        ],
        ApiKey::FindCoordinator => &[
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ],
        ApiKey::InitProducerId => &[
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::CONCURRENT_TRANSACTIONS,
        ],
        ApiKey::EndTxn | ApiKey::AddOffsetsToTxn => &[
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::CONCURRENT_TRANSACTIONS,
            ErrorCode::REQUEST_TIMED_OUT,
        ],
        ApiKey::AddPartitionsToTxn | ApiKey::TxnOffsetCommit => &[
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::CONCURRENT_TRANSACTIONS,
            ErrorCode::TRANSACTION_ABORTABLE,
        ],
        ApiKey::ShareFetch | ApiKey::ShareAcknowledge => &[
            ErrorCode::SHARE_SESSION_NOT_FOUND,
            ErrorCode::INVALID_SHARE_SESSION_EPOCH,
        ],
        ApiKey::Metadata => &[ErrorCode::LEADER_NOT_AVAILABLE],
        _ => &[
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::NOT_COORDINATOR,
        ],
    };
    rng.choice(codes).copied().unwrap_or(ErrorCode::NONE)
}

/// Of members of share groups.
pub(crate) const SHARE_APIS: &[ApiKey] = &[
    ApiKey::ShareFetch,
    ApiKey::ShareFetch,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::ShareAcknowledge,
    ApiKey::ShareGroupHeartbeat,
];

/// Of transactions.
pub(crate) const TRANSACTION_APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
    ApiKey::EndTxn,
    ApiKey::EndTxn,
];

const APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Produce,
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::InitProducerId,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::LeaveGroup,
    ApiKey::OffsetForLeaderEpoch,
];
