//! ListConfigResources: what has settings (KIP-1142).

use ottla_wire::ErrorCode;
use ottla_wire::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::Serve;
use super::describe_configs::{BROKER, TOPIC};
use crate::context::Context;

impl Serve for ListConfigResourcesRequest {
    async fn serve(self, context: &Context) -> Option<ListConfigResourcesResponse> {
        // Version 0 asks for subscriptions to clients' metrics only, of which there are none.
        let types: &[i8] = if context.version == 0 {
            &[CLIENT_METRICS]
        } else if self.resource_types.is_empty() {
            &KNOWN
        } else {
            &self.resource_types
        };
        if types.iter().any(|kind| !KNOWN.contains(kind)) {
            return Some(self.refuse(ErrorCode::UNSUPPORTED_VERSION));
        }
        let cluster = context.shared.cluster.read();
        let resource = |resource_type: i8, name: String| ConfigResource {
            resource_name: name.into(),
            resource_type,
            ..Default::default()
        };
        let mut config_resources = Vec::new();
        if types.contains(&TOPIC) {
            let topics = cluster.topics();
            config_resources.extend(topics.map(|topic| resource(TOPIC, topic.name.clone())));
        }
        for kind in [BROKER, BROKER_LOGGER] {
            if types.contains(&kind) {
                let nodes = cluster.nodes.values().filter(|node| node.up);
                config_resources.extend(nodes.map(|node| resource(kind, node.id.to_string())));
            }
        }
        Some(ListConfigResourcesResponse {
            config_resources,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ListConfigResourcesResponse {
        ListConfigResourcesResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const KNOWN: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
