//! Why a client, a producer or a consumer could not be made.

use crate::config::ConfigError;

/// Why a client, a producer or a consumer could not be made.
///
/// What they do later has errors of its own: [`SendError`](crate::producer::SendError),
/// [`consumer::Error`](crate::consumer::Error), [`admin::Error`](crate::admin::Error).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting by name is wrong or missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting of connections cannot work.
    #[error(transparent)]
    Net(#[from] ottla_net::Error),
    /// A setting of a producer cannot work.
    #[error(transparent)]
    Producer(#[from] ottla_producer::ConfigError),
    /// A setting of a consumer cannot work.
    #[error(transparent)]
    Consumer(#[from] ottla_consumer::Error),
}
