//! Which version of an API both sides speak.
//!
//! A connection asks its broker once (ApiVersions) and keeps the answer here; every request then takes the highest version
//! that both know and that the caller allows.

use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::{ApiKey, Request, VersionRange};

/// The versions a broker speaks, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerVersions {
    /// By API number, ascending, without APIs this library does not know.
    apis: Vec<(ApiKey, VersionRange)>,
}

impl PeerVersions {
    /// Takes over the list in a broker's answer; entries of APIs unknown here, and empty ranges, are left out.
    pub fn new(response: &ApiVersionsResponse) -> Self {
        let mut apis: Vec<_> = response
            .api_keys
            .iter()
            .filter(|api| api.min_version <= api.max_version)
            .filter_map(|api| {
                let key = ApiKey::try_from(api.api_key).ok()?;
                Some((key, VersionRange::new(api.min_version, api.max_version)))
            })
            .collect();
        apis.sort_by_key(|(key, _)| *key);
        apis.dedup_by_key(|(key, _)| *key);
        Self { apis }
    }

    /// The versions of an API the broker speaks; `None` if it does not have the API.
    pub fn range(&self, api: ApiKey) -> Option<VersionRange> {
        let at = self.apis.binary_search_by_key(&api, |(key, _)| *key).ok()?;
        Some(self.apis[at].1)
    }

    /// The highest version of `R` that both sides speak and that does not exceed `cap` (`i16::MAX` for no cap).
    ///
    /// # Errors
    /// If there is none; the error says what each side speaks.
    pub fn highest<R: Request>(&self, cap: i16) -> Result<i16, NoCommonVersion> {
        let theirs = self.range(R::KEY);
        let ours = R::VERSIONS;
        theirs
            .and_then(|theirs| theirs.intersect(ours))
            .and_then(|both| both.intersect(VersionRange::new(i16::MIN, cap)))
            .map(|range| range.max)
            .ok_or(NoCommonVersion {
                api: R::KEY,
                ours,
                theirs,
                cap,
            })
    }

    /// The version to ask [`ApiVersionsRequest`] with after an answer that refused ours: the highest in the answer that we
    /// speak, or 0, which every broker answers.
    pub fn retry_version(response: &ApiVersionsResponse) -> i16 {
        Self::new(response)
            .highest::<ApiVersionsRequest>(i16::MAX)
            .unwrap_or(0)
    }
}

/// Client and broker speak no version of an API in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCommonVersion {
    /// The API.
    pub api: ApiKey,
    /// The versions this library speaks.
    pub ours: VersionRange,
    /// The versions the broker speaks; `None` if it does not have the API.
    pub theirs: Option<VersionRange>,
    /// The caller's own limit; `i16::MAX` if there was none.
    pub cap: i16,
}

impl std::fmt::Display for NoCommonVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            api,
            ours,
            theirs,
            cap,
        } = self;
        match theirs {
            None => write!(
                f,
                "the broker does not have the API {api} ({})",
                *api as i16
            )?,
            Some(theirs) => {
                write!(
                    f,
                    "the broker speaks {api} ({}) {theirs}, this client {ours}",
                    *api as i16
                )?;
            }
        }
        match *cap {
            i16::MAX => Ok(()),
            cap => write!(f, ", and what was asked for needs {cap} or lower"),
        }
    }
}

impl std::error::Error for NoCommonVersion {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;
    use crate::messages::api_versions::ApiVersion;
    use crate::messages::fetch::FetchRequest;

    fn peer(apis: &[(i16, i16, i16)]) -> ApiVersionsResponse {
        let api_keys = apis
            .iter()
            .map(|&(api_key, min_version, max_version)| ApiVersion {
                api_key,
                min_version,
                max_version,
                ..Default::default()
            })
            .collect();
        ApiVersionsResponse {
            api_keys,
            ..Default::default()
        }
    }

    #[test]
    fn takes_the_highest_both_speak() {
        let versions = PeerVersions::new(&peer(&[(999, 0, 1), (1, 0, 11), (3, 0, 9)]));
        assert_eq!(versions.highest::<FetchRequest>(i16::MAX), Ok(11));
        assert_eq!(versions.highest::<FetchRequest>(7), Ok(7));
        let newer = PeerVersions::new(&peer(&[(1, 4, 99)]));
        assert_eq!(
            newer.highest::<FetchRequest>(i16::MAX),
            Ok(FetchRequest::VERSIONS.max)
        );
    }

    #[test]
    fn says_what_each_side_speaks() {
        let error = PeerVersions::new(&peer(&[(1, 0, 3)]))
            .highest::<FetchRequest>(i16::MAX)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker speaks Fetch (1) 0-3, this client 4-18"
        );
        let error = PeerVersions::new(&peer(&[(1, 8, 3)]))
            .highest::<FetchRequest>(i16::MAX)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker does not have the API Fetch (1)"
        );
        let error = PeerVersions::new(&peer(&[(1, 13, 17)]))
            .highest::<FetchRequest>(12)
            .unwrap_err();
        assert!(error.to_string().ends_with("needs 12 or lower"), "{error}");
    }

    #[test]
    fn retries_api_versions_at_the_brokers_maximum() {
        assert_eq!(PeerVersions::retry_version(&peer(&[(18, 0, 2)])), 2);
        assert_eq!(PeerVersions::retry_version(&peer(&[])), 0);
    }
}
