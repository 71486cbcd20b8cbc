//! InitProducerId: gives an idempotent producer its identity.

use ottla_wire::ErrorCode;
use ottla_wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::Serve;
use crate::context::Context;

impl Serve for InitProducerIdRequest {
    async fn serve(self, context: &Context) -> Option<InitProducerIdResponse> {
        if self.transactional_id.is_some() {
            // Refused clearly, rather than letting a producer believe in transactions that are none.
            return Some(self.refuse(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
        }
        let producer_id = context.shared.cluster.write().allocate_producer_id();
        if let Some(data_dir) = &context.shared.data_dir
            && let Err(error) = data_dir.save_producer_id(producer_id)
        {
            tracing::error!(%error, "cannot note a producer id");
            return Some(self.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        }
        Some(InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..Default::default()
        })
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
