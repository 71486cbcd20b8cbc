//! Brokers made of closures, for tests of what is built on this crate.
//!
//! A [`ScriptedCluster`] is a set of [`ScriptedBroker`]s on a [`MemoryNetwork`]: they answer ApiVersions,
//! Metadata and FindCoordinator from a common view of topics and leaders, and everything else with what
//! the test scripts. Deterministic on a current-thread runtime with a paused clock.
//!
//! ```
//! use ottla_net::testing::{Reply, ScriptedCluster};
//! use ottla_net::{Instant, Lane, To};
//! use ottla_wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let brokers = ScriptedCluster::start(3);
//! brokers.add_topic("clicks", 12);
//! brokers.broker(1).on::<HeartbeatRequest>(|request, call| {
//!     assert_eq!(request.group_id, "readers");
//!     Reply::after(Duration::from_millis(5), HeartbeatResponse::default())
//! });
//!
//! let cluster = brokers.connect();
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let topic = cluster.topic("clicks", deadline).await.unwrap();
//! assert_eq!(topic.partitions.len(), 12);
//! let request = |_| HeartbeatRequest { group_id: "readers".into(), ..Default::default() };
//! cluster.call(To::Node(1), Lane::Coordination, i16::MAX, request, deadline).await.unwrap();
//! cluster.close().await;
//! # }
//! ```
//!
//! [`MemoryNetwork`]: crate::transport::memory::MemoryNetwork

mod broker;
mod cluster;
mod drops;
mod spans;

pub use broker::{Call, Reply, ScriptedBroker};
pub use cluster::ScriptedCluster;
pub use drops::drop_after;
pub use spans::{SeenSpan, SpanLog};
