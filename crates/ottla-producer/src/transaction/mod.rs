//! Transactions: records and offsets that become visible together, or not at all (KIP-98, 360, 447, 890).
//!
//! | module | concept |
//! | --- | --- |
//! | [`producer`] | the handle that begins transactions, one at a time |
//! | [`handle`] | an open transaction |
//! | [`attempts`] | running one again while that may help |
//! | [`state`] | which transaction is open, what must happen before the next: a plain state machine |
//! | [`reply`] | what an error code means at each step |
//! | [`life`] | beginning and ending: InitProducerId and EndTxn |
//! | [`enlisting`] | partitions and offsets on their way into a transaction |
//! | [`ask`] | one request to a coordinator, and what came of it in words |
//! | [`error`] | what can go wrong, and what that asks for |
//!
//! The records themselves go the way of all records. Three hooks in the sender core (`sender::core::gate`)
//! make them transactional: the identity is the coordinator's to change, partitions that must be added
//! first wait, and once something failed nothing more leaves. That a delivery failed is noted where every
//! outcome passes (`outstanding`), so no path can leave a transaction with a hole.
//!
//! A record or offset of a transaction never reaches a broker after its EndTxn was sent: whatever tells a
//! coordinator of a transaction holds [`Transactions::busy`] shared, what begins or ends one holds it
//! alone, and both run on tasks of their own, which go on when the caller gives up waiting.

mod ask;
mod attempts;
mod enlisting;
mod error;
mod handle;
mod life;
mod producer;
mod reply;
mod state;

use std::sync::Arc;

use ottla_wire::Str;
use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock};

use self::state::State;
use crate::config::ProducerConfig;

pub use self::attempts::{Attempt, Attempts};
pub use self::error::{CommitError, RunError, TransactionError};
pub use self::handle::{Transaction, TransactionOffset};
pub use self::producer::TransactionalProducer;

/// What a producer keeps of its transactions.
#[derive(Debug)]
pub(crate) struct Transactions {
    /// `transactional.id`; every Produce request carries it.
    pub(crate) id: Option<Str>,
    /// The same, for errors.
    name: Arc<str>,
    state: Mutex<State>,
    busy: Arc<RwLock<()>>,
    /// Partitions wait to be added.
    pub(crate) outside: Notify,
    /// Nothing is in flight any more.
    pub(crate) drained: Notify,
}

impl Transactions {
    pub(crate) fn new(config: &ProducerConfig) -> Self {
        let id = config.transactional_id.clone();
        Self {
            name: id.as_deref().unwrap_or_default().into(),
            id: id.map(Str::from),
            state: Mutex::new(State::new()),
            busy: Arc::default(),
            outside: Notify::new(),
            drained: Notify::new(),
        }
    }
}
