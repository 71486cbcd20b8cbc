//! UpdateFeatures: features change their level, all that are named or none.

use ottla_wire::ErrorCode;
use ottla_wire::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::Serve;
use crate::context::Context;
use crate::features::{TRANSACTION_VERSION, TRANSACTION_VERSION_MAX};

impl Serve for UpdateFeaturesRequest {
    async fn serve(self, context: &Context) -> Option<UpdateFeaturesResponse> {
        let features = &context.shared.features;
        let now = features.transaction_version();
        let check = |update| check(update, now, context);
        let Some(reason) = self.feature_updates.iter().find_map(check) else {
            if let Some(update) = self.feature_updates.last().filter(|_| !self.validate_only) {
                let level = update.max_version_level;
                if let Err(error) = context.shared.set_transaction_version(level) {
                    return Some(self.refuse(error));
                }
            }
            return Some(UpdateFeaturesResponse {
                error_message: None,
                results: self.results(ErrorCode::NONE, None),
                ..Default::default()
            });
        };
        let error = ErrorCode::INVALID_UPDATE_VERSION;
        Some(if context.version < 2 {
            UpdateFeaturesResponse {
                error_message: None,
                results: self.results(error, Some(&reason)),
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
            results: self.results(error, Some(error.meaning())),
            ..Default::default()
        }
    }
}

/// Why the update is refused.
fn check(update: &FeatureUpdateKey, now: i16, context: &Context) -> Option<String> {
    let (feature, wanted) = (&*update.feature, update.max_version_level);
    let invalid = |why: &str| {
        Some(format!(
            "Invalid update version {wanted} for feature {feature}. {why}"
        ))
    };
    if feature != TRANSACTION_VERSION {
        let node = context.node;
        return invalid(&format!(
            "Local controller {node} does not support this feature."
        ));
    }
    let may_go_down = match context.version {
        0 => update.allow_downgrade,
        _ => matches!(update.upgrade_type, SAFE_DOWNGRADE | UNSAFE_DOWNGRADE),
    };
    match wanted {
        ..0 => invalid("A feature's level cannot be below 0."),
        _ if wanted > TRANSACTION_VERSION_MAX => {
            let max = TRANSACTION_VERSION_MAX;
            invalid(&format!("Local controller only supports versions 0-{max}"))
        }
        _ if wanted < now && !may_go_down => invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        ),
        _ => None,
    }
}

const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

trait Results {
    fn results(&self, error: ErrorCode, message: Option<&str>) -> Vec<UpdatableFeatureResult>;
}

impl Results for UpdateFeaturesRequest {
    fn results(&self, error_code: ErrorCode, message: Option<&str>) -> Vec<UpdatableFeatureResult> {
        self.feature_updates
            .iter()
            .map(|update| UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_code,
                error_message: message.map(Into::into),
                ..Default::default()
            })
            .collect()
    }
}
