//! DescribeCluster: the nodes and the controller.

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::Serve;
use super::authorized_operations::{CLUSTER_OPERATIONS, authorized_operations};
use crate::context::Context;

impl Serve for DescribeClusterRequest {
    async fn serve(self, context: &Context) -> Option<DescribeClusterResponse> {
        let cluster = context.shared.cluster.read();
        let brokers = cluster
            .nodes
            .values()
            .filter(|node| node.up)
            .map(|node| DescribeClusterBroker {
                broker_id: node.id,
                host: node.host.as_str().into(),
                port: i32::from(node.port),
                rack: node.rack.as_deref().map(Into::into),
                ..Default::default()
            })
            .collect();
        Some(DescribeClusterResponse {
            endpoint_type: self.endpoint_type,
            cluster_id: cluster.id.as_str().into(),
            controller_id: cluster.controller().unwrap_or(-1),
            brokers,
            cluster_authorized_operations: authorized_operations(
                self.include_cluster_authorized_operations,
                CLUSTER_OPERATIONS,
            ),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeClusterResponse {
        DescribeClusterResponse {
            error_code: error,
            ..Default::default()
        }
    }
}
