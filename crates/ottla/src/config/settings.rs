//! The typed settings of the crates below, as the table writes them.

use std::time::Duration;

use ottla_consumer::{
    ConsumerConfig, ShareAcknowledgementMode, ShareAcquireMode, ShareConsumerConfig,
};
use ottla_net::ClusterConfig;
use ottla_producer::ProducerConfig;
use ottla_wire::compress::Compression;

/// What a [`Config`](super::Config) says, in types.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cluster: ClusterConfig,
    pub(crate) producer: ProducerConfig,
    pub(crate) consumer: ConsumerConfig,
    /// What only share consumers have.
    pub(crate) share: ShareModes,
    /// How long an administrative call lasts that names no deadline of its own.
    pub(crate) admin_timeout: Duration,
    /// Levels by codec; [`Settings::settled`] picks the one of the codec that was chosen.
    pub(crate) levels: Levels,
}

/// How share consumers acquire and acknowledge.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShareModes {
    pub(crate) acknowledgement: ShareAcknowledgementMode,
    pub(crate) acquire: ShareAcquireMode,
}

/// Compression levels as they were set, `None` being the codec's own default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Levels {
    pub(crate) any: Option<i32>,
    pub(crate) gzip: Option<i32>,
    pub(crate) zstd: Option<i32>,
}

impl Settings {
    /// Settles what depends on more than one key, once all are applied.
    pub(crate) fn settled(mut self) -> Settings {
        let own = match self.producer.compression {
            Compression::Gzip => self.levels.gzip,
            Compression::Zstd => self.levels.zstd,
            _ => None,
        };
        self.producer.compression_level = own.or(self.levels.any);
        self
    }

    /// What a share consumer takes of it.
    pub(crate) fn share_consumer(&self) -> ShareConsumerConfig {
        ShareConsumerConfig {
            acknowledgement_mode: self.share.acknowledgement,
            acquire_mode: self.share.acquire,
            ..ShareConsumerConfig::from(&self.consumer)
        }
    }

    /// Everything that a key can change, as text, to compare two of them.
    #[cfg(test)]
    pub(super) fn fingerprint(&self) -> String {
        // Spelled out, so that a new field of `ClusterConfig` cannot be forgotten here: its own
        // `Debug` is brief.
        let ClusterConfig {
            bootstrap_servers,
            client_id,
            request_timeout,
            retry_backoff,
            retry_backoff_max,
            reconnect_backoff,
            reconnect_backoff_max,
            connect_timeout,
            connect_timeout_max,
            connection_idle_max,
            connection_lifetime_max,
            connection_requests_max,
            connection_queue_bytes_max,
            receive_message_max_bytes,
            send_buffer_bytes,
            receive_buffer_bytes,
            tcp_keepalive,
            tcp_nodelay,
            address_family,
            metadata_max_age,
            metadata_max_idle,
            allow_auto_create_topics,
            metadata_recovery,
            rebootstrap_trigger,
            authenticator: _,
        } = &self.cluster;
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            (
                bootstrap_servers,
                client_id,
                request_timeout,
                retry_backoff,
                retry_backoff_max
            ),
            (
                reconnect_backoff,
                reconnect_backoff_max,
                connect_timeout,
                connect_timeout_max
            ),
            (
                connection_idle_max,
                connection_lifetime_max,
                connection_requests_max
            ),
            (
                connection_queue_bytes_max,
                receive_message_max_bytes,
                send_buffer_bytes
            ),
            (
                receive_buffer_bytes,
                tcp_keepalive,
                tcp_nodelay,
                address_family,
                metadata_max_age
            ),
            (
                metadata_max_idle,
                allow_auto_create_topics,
                metadata_recovery,
                rebootstrap_trigger
            ),
            (
                &self.producer,
                &self.consumer,
                self.share,
                self.admin_timeout,
                self.levels
            ),
        )
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: ClusterConfig::default(),
            producer: ProducerConfig::default(),
            consumer: ConsumerConfig::default(),
            share: ShareModes::default(),
            admin_timeout: Duration::from_secs(60),
            levels: Levels::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codecs_own_level_comes_first() {
        let mut settings = Settings {
            levels: Levels {
                any: Some(3),
                gzip: Some(9),
                zstd: None,
            },
            ..Settings::default()
        };
        for (codec, level) in [
            (Compression::Gzip, Some(9)),
            (Compression::Zstd, Some(3)),
            (Compression::None, Some(3)),
        ] {
            settings.producer.compression = codec;
            assert_eq!(settings.clone().settled().producer.compression_level, level);
        }
    }
}
