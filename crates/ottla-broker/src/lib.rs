//! A Kafka-compatible broker inside your process, for development, tests and demonstrations.
//!
//! [`EmbeddedCluster::start`] runs one or several nodes, each with a listener of its own, in memory or in a data
//! directory. Ordinary Kafka clients connect to it; the program that started it can move leaders and
//! coordinators, stop and restart nodes, and script faults ([`Rule`]).
//!
//! It is a broker for one process: all nodes share one log per partition, so replication never lags unless a test says
//! so, and data is as safe as that process and its disk. ACLs and SASL are not served yet.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ottla_broker::Error> {
//! use ottla_broker::{BrokerOptions, EmbeddedCluster};
//!
//! let options = BrokerOptions { topics: vec![("clicks".into(), 12)], ..Default::default() };
//! let cluster = EmbeddedCluster::start(options).await?;
//! println!("bootstrap.servers={}", cluster.bootstrap_servers());
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod api;
mod cluster;
mod context;
mod control;
mod damage;
mod disk;
mod embedded;
mod error;
mod features;
mod fetch_session;
mod group;
mod log;
mod maintenance;
mod node_config;
mod options;
mod pattern;
mod quotas;
mod recovery;
mod script;
mod server;
mod settings;
mod share_session;
mod storage;
mod throttle;
mod topic_config;
mod topics;
mod transaction;

pub use damage::{Damage, DamageKind};
pub use embedded::EmbeddedCluster;
pub use error::Error;
pub use group::migration::MigrationPolicy;
pub use node_config::Setting;
pub use options::BrokerOptions;
pub use script::{Fault, Rule};
