//! UpdateFeatures: there is no feature here yet that could be switched.

use ottla_wire::ErrorCode;
use ottla_wire::messages::update_features::{
    UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::Serve;
use crate::context::Context;

impl Serve for UpdateFeaturesRequest {
    async fn serve(self, context: &Context) -> Option<UpdateFeaturesResponse> {
        let refused = self.feature_updates.first().map(|update| {
            format!(
                "Invalid update version {} for feature {}. Local controller {} does not support this feature.",
                update.max_version_level, update.feature, context.node
            )
        });
        let Some(reason) = refused else {
            return Some(UpdateFeaturesResponse {
                error_message: None,
                ..Default::default()
            });
        };
        let error = ErrorCode::INVALID_UPDATE_VERSION;
        Some(if context.version < 2 {
            UpdateFeaturesResponse {
                error_message: None,
                results: self.results(error, &reason),
                ..Default::default()
            }
        } else {
            let message = format!(
                "The update failed for all features since the following feature had an error: {reason}"
            );
            UpdateFeaturesResponse {
                error_code: error,
                error_message: Some(message.into()),
                ..Default::default()
            }
        })
    }

    fn refuse(&self, error: ErrorCode) -> UpdateFeaturesResponse {
        UpdateFeaturesResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            results: self.results(error, error.meaning()),
            ..Default::default()
        }
    }
}

trait Results {
    fn results(&self, error: ErrorCode, message: &str) -> Vec<UpdatableFeatureResult>;
}

impl Results for UpdateFeaturesRequest {
    fn results(&self, error_code: ErrorCode, message: &str) -> Vec<UpdatableFeatureResult> {
        self.feature_updates
            .iter()
            .map(|update| UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_code,
                error_message: Some(message.into()),
                ..Default::default()
            })
            .collect()
    }
}
