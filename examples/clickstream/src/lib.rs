//! A stream processor to copy from: it reads clicks, validates them, adds the country that each came from, and
//! sets aside what is malformed. `ottla demo` runs it.
//!
//! ```text
//!                      ┌────────── worker 1 ──────────┐
//!   user_clicks ──────►│ validate ► add country ► write├──► enriched_clicks
//!   12 partitions,     └──────┬───────────────────────┘
//!   keyed by user             │  … worker 2, worker 3: one consumer group
//!                             └─── malformed ────────────► user_clicks_dlq
//! ```
//!
//! # At least once
//!
//! A [`Worker`] goes round in four steps, and their order is the whole guarantee:
//!
//! 1. **Poll** records. Automatic commit is off.
//! 2. **Send** what becomes of each, good or bad. Sends are not awaited one by one: the producer batches them.
//! 3. **Await every delivery**: all brokers concerned have acknowledged, with `acks=all`, by an idempotent producer.
//! 4. **Commit** the offsets, and only then poll again.
//!
//! Wherever a worker dies, the offsets that were committed are those of records whose outputs are written. What came
//! after is read again by whoever gets the partition, so that nothing is lost and some may be written twice. Every
//! output carries the topic, partition and offset it came from ([`Source`]): whoever must not count a click twice
//! drops what it has seen. A rebalance takes partitions away only when the worker polls, that is behind step 4, so
//! that a planned change of members repeats nothing.
//!
//! # What goes where
//!
//! | topic | key | value | headers |
//! | --- | --- | --- | --- |
//! | `user_clicks` | the user | a [`Click`] in JSON, one hopes | anything |
//! | `enriched_clicks` | as it came | an [`EnrichedClick`] in JSON | as they came, and [`Source`]'s |
//! | `user_clicks_dlq` | as it came | as it came, byte for byte | as they came, [`Source`]'s, `error.kind`, `error.message` |
//!
//! Timestamps are passed on, so that they stay the time of the click. A dead letter keeps its original key, value
//! and headers: to replay one after a repair, send it as it is to the topic that it names.
//!
//! | module | concept |
//! | --- | --- |
//! | [`click`](Click) | the event, and what makes one malformed |
//! | [`country`] | from address to country, by a made-up sample |
//! | [`source`](Source) | where a record came from, as headers |
//! | [`worker`](Worker) | the loop |
//! | [`generator`](Generator) | made-up traffic |
#![forbid(unsafe_code)]

mod click;
pub mod country;
mod generator;
mod source;
mod worker;

pub use click::{Click, EnrichedClick, Kind, Malformed};
pub use generator::{Generated, Generator};
pub use source::{ERROR_KIND, ERROR_MESSAGE, Source};
pub use worker::{Counts, Error, Topics, Worker};
