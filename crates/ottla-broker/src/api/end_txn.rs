//! EndTxn: a transaction commits or aborts.

use ottla_wire::ErrorCode;
use ottla_wire::messages::end_txn::{EndTxnRequest, EndTxnResponse};

use super::Serve;
use crate::context::Context;

impl Serve for EndTxnRequest {
    async fn serve(self, context: &Context) -> Option<EndTxnResponse> {
        let id = &*self.transactional_id;
        if let Err(error) = context.check_transaction_coordinator(id) {
            return Some(self.refuse(error));
        }
        let now_ms = context.shared.now_ms();
        let bumps = context.version >= BUMPS_FROM;
        let mut transactions = context.shared.transactions.lock();
        let ended = context
            .shared
            .change_transaction(&mut transactions, id, |transaction| {
                let identity = (self.producer_id, self.producer_epoch);
                let fresh_id = || context.shared.fresh_producer_id();
                transaction.end(identity, self.committed, bumps, fresh_id, now_ms)
            });
        if let Err(error) = ended {
            return Some(self.refuse(context.fenced(error, FENCED_FROM)));
        }
        let identity = transactions.get_mut(id).map(|found| found.identity);
        let (producer_id, producer_epoch) = identity.ok().filter(|_| bumps).unwrap_or((-1, -1));
        Some(EndTxnResponse {
            producer_id,
            producer_epoch,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> EndTxnResponse {
        EndTxnResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

const FENCED_FROM: i16 = 2;

/// KIP-890
const BUMPS_FROM: i16 = 5;
