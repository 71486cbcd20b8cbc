//! What operators set while the cluster runs, and a data directory keeps: levels of features, throttles of nodes,
//! quotas of clients. Settings of topics are the topics'.

use ottla_wire::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::context::Shared;
use crate::error::Refused;
use crate::features::Levels;
use crate::group::share::settings::GroupConfigs;
use crate::quotas::Quotas;
use crate::throttle::Throttles;

/// All of it; what a file does not name is as it is from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClusterSettings {
    pub(crate) levels: Levels,
    pub(crate) throttles: Throttles,
    pub(crate) quotas: Quotas,
    pub(crate) groups: GroupConfigs,
}

impl Shared {
    /// Changes settings and keeps them; after an error everything is as it was. With `validate_only` it is so in
    /// any case.
    pub(crate) fn change_settings(
        &self,
        validate_only: bool,
        change: impl FnOnce(&mut ClusterSettings) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut settings = self.settings.lock();
        let mut changed = settings.clone();
        change(&mut changed)?;
        if validate_only {
            return Ok(());
        }
        if let Some(data_dir) = &self.data_dir {
            data_dir.save_settings(&changed).map_err(|error| {
                tracing::error!(%error, "cannot write settings");
                Refused {
                    error: ErrorCode::KAFKA_STORAGE_ERROR,
                    message: format!("the broker cannot write to its data directory: {error}"),
                }
            })?;
        }
        *settings = changed;
        Ok(())
    }
}
