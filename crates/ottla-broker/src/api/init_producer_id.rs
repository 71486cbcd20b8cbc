//! InitProducerId: gives a producer its identity; with a transactional id, one that fences those before it.

use ottla_wire::ErrorCode;
use ottla_wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::Serve;
use crate::context::Context;
use crate::transaction::{Identity, Next, Transaction};

impl Serve for InitProducerIdRequest {
    async fn serve(self, context: &Context) -> Option<InitProducerIdResponse> {
        let identity = match &self.transactional_id {
            None => context.shared.fresh_producer_id().map(|id| (id, 0)),
            Some(id) => init(context, id, &self),
        };
        match identity {
            Ok((producer_id, producer_epoch)) => Some(InitProducerIdResponse {
                producer_id,
                producer_epoch,
                ..Default::default()
            }),
            Err(error) => Some(self.refuse(context.fenced(error, FENCED_FROM))),
        }
    }

    fn refuse(&self, error: ErrorCode) -> InitProducerIdResponse {
        InitProducerIdResponse {
            error_code: error,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        }
    }
}

fn init(
    context: &Context,
    id: &str,
    request: &InitProducerIdRequest,
) -> Result<Identity, ErrorCode> {
    context.check_transaction_coordinator(id)?;
    let timeout_ms = request.transaction_timeout_ms;
    if !(1..=TIMEOUT_MAX_MS).contains(&timeout_ms) {
        return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    }
    let shared = &context.shared;
    let now_ms = shared.now_ms();
    let mut transactions = shared.transactions.lock();
    if transactions.get_mut(id).is_err() {
        let identity = (shared.fresh_producer_id()?, 0);
        let new = Transaction::new(identity, timeout_ms, now_ms);
        shared.save_transaction(id, &new)?;
        transactions.by_id.insert(id.to_owned(), new);
        return Ok(identity);
    }
    let expected = Some((request.producer_id, request.producer_epoch));
    let expected = expected.filter(|(id, epoch)| *id >= 0 && *epoch >= 0);
    let fresh_id = || shared.fresh_producer_id();
    let next = shared.change_transaction(&mut transactions, id, |transaction| {
        transaction.init(expected, timeout_ms, fresh_id, now_ms)
    })?;
    if next == Next::Complete {
        // The transaction that was open has been aborted.
        shared.change_transaction(&mut transactions, id, |transaction| {
            transaction.init(None, timeout_ms, fresh_id, now_ms)
        })?;
    }
    transactions.get_mut(id).map(|found| found.identity)
}

const FENCED_FROM: i16 = 4;

/// `transaction.max.timeout.ms`
const TIMEOUT_MAX_MS: i32 = 900_000;
