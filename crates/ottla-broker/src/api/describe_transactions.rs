//! DescribeTransactions: where transactional ids stand.

use std::collections::BTreeMap;

use ottla_wire::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use ottla_wire::{ErrorCode, Str};

use super::Serve;
use crate::context::Context;
use crate::transaction::{State, Transaction};

impl Serve for DescribeTransactionsRequest {
    async fn serve(self, context: &Context) -> Option<DescribeTransactionsResponse> {
        let transactions = context.shared.transactions.lock();
        let describe = |id: &Str| {
            if let Err(error) = context.check_transaction_coordinator(id) {
                return failed(id, error);
            }
            match transactions.by_id.get(&**id) {
                Some(transaction) => described(id, transaction),
                None => failed(id, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND),
            }
        };
        Some(DescribeTransactionsResponse {
            transaction_states: self.transactional_ids.iter().map(describe).collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeTransactionsResponse {
        let ids = self.transactional_ids.iter();
        DescribeTransactionsResponse {
            transaction_states: ids.map(|id| failed(id, error)).collect(),
            ..Default::default()
        }
    }
}

fn described(id: &Str, transaction: &Transaction) -> TransactionState {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    if transaction.state == State::Ongoing {
        for (topic, partition) in &transaction.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
    }
    TransactionState {
        transactional_id: id.clone(),
        transaction_state: transaction.state.name().into(),
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_start_time_ms: transaction.started_ms,
        producer_id: transaction.identity.0,
        producer_epoch: transaction.identity.1,
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| TopicData {
                topic: topic.into(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn failed(id: &Str, error_code: ErrorCode) -> TransactionState {
    TransactionState {
        error_code,
        transactional_id: id.clone(),
        ..Default::default()
    }
}
