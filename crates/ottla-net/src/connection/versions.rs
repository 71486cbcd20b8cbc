//! What a broker can do, as its ApiVersions response says.

use std::collections::HashMap;

use ottla_wire::messages::api_versions::ApiVersionsResponse;
use ottla_wire::{ApiKey, NoCommonVersion, PeerVersions, Request, VersionRange};

use crate::error::{Error, Peer};

/// The APIs and features of one broker, learned when the connection was made.
#[derive(Debug, Clone, Default)]
pub struct BrokerVersions {
    apis: PeerVersions,
    supported_features: HashMap<String, (i16, i16)>,
    finalized_features: HashMap<String, i16>,
}

impl BrokerVersions {
    pub(crate) fn from_response(response: &ApiVersionsResponse) -> Self {
        Self {
            apis: PeerVersions::new(response),
            supported_features: response
                .supported_features
                .iter()
                .map(|f| (f.name.to_string(), (f.min_version, f.max_version)))
                .collect(),
            finalized_features: response
                .finalized_features
                .iter()
                .map(|f| (f.name.to_string(), f.max_version_level))
                .collect(),
        }
    }

    /// The versions of an API that the broker speaks; `None` if it does not know the API.
    pub fn api(&self, api: ApiKey) -> Option<VersionRange> {
        self.apis.range(api)
    }

    /// The level at which the cluster has switched a feature on, such as `transaction.version`; 0 if it
    /// has not.
    pub fn finalized_feature(&self, name: &str) -> i16 {
        self.finalized_features.get(name).copied().unwrap_or(0)
    }

    /// The levels of a feature that the broker supports, lowest and highest.
    pub fn supported_feature(&self, name: &str) -> Option<(i16, i16)> {
        self.supported_features.get(name).copied()
    }

    /// The highest version of `R` that both sides speak, at most `cap`.
    pub(crate) fn choose<R: Request>(&self, cap: i16, peer: &Peer) -> Result<i16, Error> {
        self.apis.highest::<R>(cap).map_err(
            |NoCommonVersion {
                 api,
                 ours,
                 theirs,
                 cap,
             }| Error::Unsupported {
                peer: peer.clone(),
                api,
                wanted: (ours.min, ours.max.min(cap)),
                offered: theirs.map(|range| (range.min, range.max)),
            },
        )
    }
}
