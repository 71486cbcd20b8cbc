//! Three ways to read a topic with many tasks, to copy from. Which one is for you:
//!
//! | module, and program | order | who does a record again that failed | members |
//! | --- | --- | --- | --- |
//! | [`partitions`], `partition-tasks` | within each partition | nobody: the task decides, and the partition waits | at most one per partition are of use |
//! | [`pool`], `share-pool` | none | whoever comes first, some times; the others go on | any number |
//! | [`billing`], `exactly-once` | within each partition | the same task; what it wrote for the first attempt is never seen | at most one per partition are of use |
//!
//! Each program runs on an embedded broker, or with `OTTLA_BOOTSTRAP=host:port` on a Kafka whose topics exist:
//! `cargo run -p consuming --bin partition-tasks`. The modules know nothing of either: they take a client's consumer.
#![forbid(unsafe_code)]

pub mod billing;
pub mod demo;
pub mod partitions;
pub mod pool;
