//! ListTransactions: the transactional ids that this node coordinates.

use ottla_wire::ErrorCode;
use ottla_wire::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState,
};

use super::Serve;
use crate::context::Context;
use crate::pattern::whole;
use crate::transaction::{State, Transaction};

impl Serve for ListTransactionsRequest {
    async fn serve(self, context: &Context) -> Option<ListTransactionsResponse> {
        let now_ms = context.shared.now_ms();
        let pattern = self.transactional_id_pattern.as_deref();
        let pattern = match pattern.filter(|pattern| !pattern.is_empty()).map(whole) {
            None => None,
            Some(Ok(pattern)) => Some(pattern),
            Some(Err(_)) => return Some(self.refuse(ErrorCode::INVALID_REGULAR_EXPRESSION)),
        };
        let wanted = |transaction: &Transaction| {
            let state = transaction.state.name();
            let age_ms = now_ms.saturating_sub(transaction.started_ms);
            (self.state_filters.is_empty() || self.state_filters.iter().any(|s| **s == *state))
                && (self.producer_id_filters.is_empty()
                    || self.producer_id_filters.contains(&transaction.identity.0))
                && (self.duration_filter < 0
                    || (transaction.started_ms >= 0 && age_ms > self.duration_filter))
        };
        let unknown = self.state_filters.iter();
        let unknown = unknown.filter(|name| !STATES.iter().any(|state| *state.name() == ***name));
        let transactions = context.shared.transactions.lock();
        let listed = transactions
            .by_id
            .iter()
            .filter(|(id, transaction)| {
                wanted(transaction)
                    && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
                    && context.check_transaction_coordinator(id).is_ok()
            })
            .map(|(id, transaction)| TransactionState {
                transactional_id: id.as_str().into(),
                producer_id: transaction.identity.0,
                transaction_state: transaction.state.name().into(),
                ..Default::default()
            });
        Some(ListTransactionsResponse {
            unknown_state_filters: unknown.cloned().collect(),
            transaction_states: listed.collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ListTransactionsResponse {
        ListTransactionsResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

const STATES: [State; 6] = [
    State::Empty,
    State::Ongoing,
    State::PrepareCommit,
    State::PrepareAbort,
    State::CompleteCommit,
    State::CompleteAbort,
];
