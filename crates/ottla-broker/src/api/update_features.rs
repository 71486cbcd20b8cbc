//! UpdateFeatures: features change their level, all that are named or none.

use ottla_wire::ErrorCode;
use ottla_wire::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::Serve;
use crate::context::Context;
use crate::error::Refused;
use crate::features::{FEATURES, Feature, Levels};

impl Serve for UpdateFeaturesRequest {
    async fn serve(self, context: &Context) -> Option<UpdateFeaturesResponse> {
        let changed = context
            .shared
            .change_settings(self.validate_only, |settings| {
                let changes: Vec<_> = self
                    .feature_updates
                    .iter()
                    .map(|update| check(update, &settings.levels, context))
                    .collect::<Result<_, _>>()
                    .map_err(|message| Refused {
                        error: ErrorCode::INVALID_UPDATE_VERSION,
                        message,
                    })?;
                if !changes.is_empty() {
                    settings.levels.change(changes);
                }
                Ok(())
            });
        let Err(Refused {
            error,
            message: reason,
        }) = changed
        else {
            return Some(UpdateFeaturesResponse {
                error_message: None,
                results: self.results(ErrorCode::NONE, None),
                ..Default::default()
            });
        };
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

/// What an update changes, or why it is refused.
fn check(
    update: &FeatureUpdateKey,
    now: &Levels,
    context: &Context,
) -> Result<(Feature, i16), String> {
    let (name, wanted) = (&*update.feature, update.max_version_level);
    let invalid = |why: &str| {
        Err(format!(
            "Invalid update version {wanted} for feature {name}. {why}"
        ))
    };
    let Some(feature) = FEATURES.into_iter().find(|known| known.name == name) else {
        let node = context.node;
        return invalid(&format!(
            "Local controller {node} does not support this feature."
        ));
    };
    let may_go_down = match context.version {
        0 => update.allow_downgrade,
        _ => matches!(update.upgrade_type, SAFE_DOWNGRADE | UNSAFE_DOWNGRADE),
    };
    match wanted {
        ..0 => invalid("A feature's level cannot be below 0."),
        _ if wanted > feature.max => {
            let max = feature.max;
            invalid(&format!("Local controller only supports versions 0-{max}"))
        }
        _ if wanted < now.of(feature) && !may_go_down => invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        ),
        _ => Ok((feature, wanted)),
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
