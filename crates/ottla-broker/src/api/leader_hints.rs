//! Where the leader is, told together with the error that sent a client to the wrong node (KIP-951).

use ottla_wire::messages::{fetch, produce, share_acknowledge, share_fetch};

use crate::cluster::Node;
use crate::context::Context;

/// A response's list of nodes that its errors point to.
pub(super) trait NodeEndpoint {
    fn of(node: &Node) -> Self;
    fn node_id(&self) -> i32;
}

/// Adds the address of `node_id` to a response, once.
pub(super) fn note_endpoint<E: NodeEndpoint>(
    context: &Context,
    node_id: i32,
    endpoints: &mut Vec<E>,
) {
    if endpoints
        .iter()
        .any(|endpoint| endpoint.node_id() == node_id)
    {
        return;
    }
    if let Some(node) = context.shared.cluster.read().nodes.get(&node_id) {
        endpoints.push(E::of(node));
    }
}

macro_rules! node_endpoint {
    ($($api:ident)*) => {$(
        impl NodeEndpoint for $api::NodeEndpoint {
            fn of(node: &Node) -> Self {
                Self {
                    node_id: node.id,
                    host: node.host.as_str().into(),
                    port: i32::from(node.port),
                    rack: node.rack.as_deref().map(Into::into),
                    ..Default::default()
                }
            }

            fn node_id(&self) -> i32 {
                self.node_id
            }
        }
    )*};
}

node_endpoint! { fetch produce share_acknowledge share_fetch }
