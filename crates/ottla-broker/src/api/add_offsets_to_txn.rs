//! AddOffsetsToTxn: a producer of the first generation says that its transaction will commit a group's offsets.

use ottla_wire::ErrorCode;
use ottla_wire::messages::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::Serve;
use crate::context::Context;
use crate::transaction::Next;

impl Serve for AddOffsetsToTxnRequest {
    async fn serve(self, context: &Context) -> Option<AddOffsetsToTxnResponse> {
        let id = &*self.transactional_id;
        if let Err(error) = context.check_transaction_coordinator(id) {
            return Some(self.refuse(error));
        }
        if self.group_id.is_empty() {
            return Some(self.refuse(ErrorCode::INVALID_GROUP_ID));
        }
        let now_ms = context.shared.now_ms();
        let mut transactions = context.shared.transactions.lock();
        let changed = context
            .shared
            .change_transaction(&mut transactions, id, |transaction| {
                transaction.check((self.producer_id, self.producer_epoch))?;
                transaction.begin(now_ms);
                transaction.groups.insert(self.group_id.to_string());
                Ok(Next::Nothing)
            });
        let error = changed.err().unwrap_or(ErrorCode::NONE);
        Some(self.refuse(context.fenced(error, FENCED_FROM)))
    }

    fn refuse(&self, error: ErrorCode) -> AddOffsetsToTxnResponse {
        AddOffsetsToTxnResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

const FENCED_FROM: i16 = 2;
