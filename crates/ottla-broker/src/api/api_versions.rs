//! ApiVersions: which APIs this broker serves, in which versions.

use ottla_wire::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_wire::{ApiKey, ErrorCode, encode_response};

use super::{Answer, Serve, served};
use crate::context::Context;
use crate::features::FEATURES;

impl Serve for ApiVersionsRequest {
    async fn serve(self, context: &Context) -> Option<ApiVersionsResponse> {
        let levels = context.shared.settings.lock().levels.clone();
        // Level 0 is what holds without a word about it.
        let finalized = FEATURES
            .into_iter()
            .map(|feature| (feature.name, levels.of(feature)))
            .filter(|(_, level)| *level > 0)
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.into(),
                min_version_level: level,
                max_version_level: level,
                ..Default::default()
            });
        let supported = FEATURES.into_iter().map(|feature| SupportedFeatureKey {
            name: feature.name.into(),
            min_version: 0,
            max_version: feature.max,
            ..Default::default()
        });
        Some(ApiVersionsResponse {
            supported_features: supported.collect(),
            finalized_features_epoch: levels.epoch(),
            finalized_features: finalized.collect(),
            ..table(ErrorCode::NONE)
        })
    }

    fn refuse(&self, error: ErrorCode) -> ApiVersionsResponse {
        table(error)
    }
}

/// The answer to a version that nobody here knows: error 35 in version 0, from which the client learns what to
/// ask with (KIP-511).
pub(super) fn unsupported(correlation_id: i32) -> Answer {
    let response = table(ErrorCode::UNSUPPORTED_VERSION);
    match encode_response::<ApiVersionsRequest>(&response, 0, correlation_id) {
        Ok(frame) => Answer::Frame(frame),
        Err(error) => Answer::Close(error.to_string()),
    }
}

fn table(error_code: ErrorCode) -> ApiVersionsResponse {
    let api_keys = ApiKey::ALL
        .iter()
        .filter_map(|api| {
            let versions = served(*api)?;
            // Older librdkafka compresses only if Produce is said to begin at 0.
            let min_version = if *api == ApiKey::Produce {
                0
            } else {
                versions.min
            };
            Some(ApiVersion {
                api_key: *api as i16,
                min_version,
                max_version: versions.max,
                ..Default::default()
            })
        })
        .collect();
    ApiVersionsResponse {
        error_code,
        api_keys,
        finalized_features_epoch: 0,
        ..Default::default()
    }
}
