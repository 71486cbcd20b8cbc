//! Administration of a Kafka cluster: topics, settings, groups, offsets.
//!
//! An [`Admin`] asks the broker that can answer: the controller for changes, a group's coordinator
//! for its offsets, the leader of a partition for its bounds. What fails for a reason that may pass is
//! tried again until the call's deadline. A call about several things has a result for each of
//! them ([`Results`]), since a broker may do one and refuse the next.
//!
//! Where the data comes from and goes: requests and responses of [`ottla_wire`] over the connections
//! of [`ottla_net`]. Nothing is cached here.
#![forbid(unsafe_code)]

mod client;
mod cluster;
mod configs;
mod error;
mod groups;
mod items;
mod offsets;
mod share_groups;
mod topics;

pub use client::Admin;
pub use cluster::{BrokerDescription, ClusterDescription};
pub use configs::{AlterConfig, ConfigEntry, ConfigSource, ConfigSynonym, Resource};
pub use error::Error;
pub use groups::{GroupDescription, GroupListing, GroupMember, GroupOffset};
pub use items::Results;
pub use offsets::{ListedOffset, OffsetSpec};
pub use share_groups::ShareGroupOffset;
pub use topics::{NewPartitions, NewTopic, PartitionDescription, TopicCreated, TopicDescription};
