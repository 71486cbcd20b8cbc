//! What happens to the cluster while clients use it: leaders move, nodes crash and come back, replies are lost.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use ottla_broker::{EmbeddedCluster, Fault, Rule};
use ottla_wire::{ApiKey, ErrorCode};

/// Whether faults happen, and the seed they come from.
#[derive(Debug)]
pub(crate) struct Weather {
    fair: AtomicBool,
    rng: Mutex<Rng>,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            fair: AtomicBool::new(false),
            rng: Mutex::new(Rng::with_seed(seed)),
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
        // A panic while it was held would have ended the run.
        self.rng
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .fork()
    }
}

/// Harms the cluster for `duration`, then repairs it: every node is up and no rule is left.
pub(crate) async fn harm(
    cluster: &Arc<EmbeddedCluster>,
    weather: &Weather,
    topics: &[(String, i32)],
    groups: &[String],
    duration: Duration,
) {
    let mut rng = weather.fork();
    let end = tokio::time::Instant::now() + duration;
    let nodes = cluster.node_ids();
    let mut down = None;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(rng.u64(1..1500))).await;
        match rng.u32(0..10) {
            0..=2 => {
                let Some((topic, partitions)) = rng.choice(topics) else {
                    continue;
                };
                let Some(node) = rng.choice(&nodes) else {
                    continue;
                };
                // Refused when that node is down, which is as good as another fault.
                let _ = cluster.move_leader(topic, rng.i32(0..*partitions), *node);
            }
            3 => match down.take() {
                None if nodes.len() > 1 => {
                    let Some(node) = rng.choice(&nodes).copied() else {
                        continue;
                    };
                    if cluster.stop_node(node).await.is_ok() {
                        down = Some(node);
                    }
                }
                None => {}
                Some(node) => {
                    let _ = cluster.start_node(node).await;
                }
            },
            4 => {
                let (Some(group), Some(node)) = (rng.choice(groups), rng.choice(&nodes)) else {
                    continue;
                };
                cluster.move_coordinator(group, *node);
            }
            _ => cluster.inject(rule(&mut rng)),
        }
    }
    if let Some(node) = down {
        let _ = cluster.start_node(node).await;
    }
    cluster.clear_faults();
    weather.clear_up();
}

fn rule(rng: &mut Rng) -> Rule {
    let api = rng.choice(APIS).copied().unwrap_or(ApiKey::Produce);
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
        ApiKey::ListOffsets => &[
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
        ApiKey::Metadata => &[ErrorCode::LEADER_NOT_AVAILABLE],
        _ => &[
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::NOT_COORDINATOR,
        ],
    };
    rng.choice(codes).copied().unwrap_or(ErrorCode::NONE)
}

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
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
];
