//! FindCoordinator: which node is responsible for a group, a transactional id or a share group's partition.

use ottla_wire::ErrorCode;
use ottla_wire::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

use super::Serve;
use crate::context::Context;

impl Serve for FindCoordinatorRequest {
    async fn serve(self, context: &Context) -> Option<FindCoordinatorResponse> {
        if context.version >= BATCHED_FROM {
            let coordinators = self
                .coordinator_keys
                .iter()
                .map(|key| find(context, self.key_type, key))
                .collect();
            return Some(FindCoordinatorResponse {
                coordinators,
                ..Default::default()
            });
        }
        let found = find(context, self.key_type, &self.key);
        Some(FindCoordinatorResponse {
            error_code: found.error_code,
            error_message: found.error_message,
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> FindCoordinatorResponse {
        let coordinators = self
            .coordinator_keys
            .iter()
            .map(|key| failed(key, error, ""))
            .collect();
        FindCoordinatorResponse {
            error_code: error,
            node_id: -1,
            port: -1,
            coordinators,
            ..Default::default()
        }
    }
}

fn find(context: &Context, key_type: i8, key: &str) -> Coordinator {
    if !matches!(key_type, GROUP | TRANSACTION) {
        return failed(
            key,
            ErrorCode::INVALID_REQUEST,
            "this kind of coordinator is not known here",
        );
    }
    let cluster = context.shared.cluster.read();
    let Some(node) = cluster.coordinator(key) else {
        return failed(key, ErrorCode::COORDINATOR_NOT_AVAILABLE, "no node is up");
    };
    Coordinator {
        key: key.into(),
        node_id: node.id,
        host: node.host.as_str().into(),
        port: i32::from(node.port),
        error_message: None,
        ..Default::default()
    }
}

fn failed(key: &str, error_code: ErrorCode, message: &str) -> Coordinator {
    Coordinator {
        key: key.into(),
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    }
}

const BATCHED_FROM: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
