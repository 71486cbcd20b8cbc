//! Share groups (KIP-932): members that read the same partitions, each record being for one of them, acknowledged one by
//! one.
//!
//! | module | concept |
//! | --- | --- |
//! | [`consumer`] | the share consumer as applications see it |
//! | [`membership`] | heartbeats and what their answers mean: a plain state machine |
//! | [`core`], [`node`] | share sessions, what to fetch and acknowledge, what became of it: a plain state machine |
//! | [`held`], [`acknowledge`] | of one partition: what is lent to the application, and what it said of it |
//! | [`fetched`] | acquired records of one answer, and how they are read |
//! | [`reader`], [`stream`] | the application's side |
//! | [`metrics`] | what was done so far, in numbers |
//! | [`driver`], [`exchange`], [`heartbeat`] | the tasks that carry requests and answers |
//!
//! Nothing of a consumer of the other kind is used but how batches are decoded: there are no positions, and nobody is
//! waited for when a group rebalances.

mod acknowledge;
mod config;
mod consumer;
mod core;
mod driver;
mod exchange;
mod fetched;
mod heartbeat;
mod held;
mod membership;
mod metrics;
mod node;
mod outcome;
mod reader;
mod record;
mod stream;
#[cfg(test)]
mod tests;

pub use self::{
    acknowledge::AcknowledgeType,
    config::{ShareAcknowledgementMode, ShareAcquireMode, ShareConsumerConfig},
    consumer::ShareConsumer,
    metrics::ShareConsumerMetrics,
    outcome::{AcknowledgeListener, AcknowledgeOutcome, Fault},
    record::ShareRecord,
    stream::ShareRecordStream,
};
