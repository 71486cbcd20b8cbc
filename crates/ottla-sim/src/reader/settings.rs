//! What a consumer is set to, drawn from the seed.

use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{ConsumerConfig, GroupProtocol, OffsetReset};

use ottla_wire::ErrorCode;

use super::offers::Offers;
use crate::consume::group_name;
use crate::history::Reset;

/// What the consumers of one application have in common, and in a group those of all its members.
#[derive(Clone, Debug)]
pub(crate) struct Mode {
    /// Its number; whether it is used says `with_group`.
    pub(crate) group: u8,
    with_group: bool,
    /// Whether it subscribes, or takes partitions by hand.
    pub(crate) subscribes: bool,
    pub(crate) reset: Reset,
    offers: Offers,
    /// Whether its members have a `group.instance.id`, each place its own (KIP-345).
    is_static: bool,
}

impl Mode {
    pub(crate) fn group(group: u8, rng: &mut Rng) -> Self {
        let offers = Offers::draw(rng);
        Self {
            group,
            with_group: true,
            subscribes: true,
            reset: reset(rng),
            offers,
            is_static: rng.bool(),
        }
    }

    /// A group that offers the same all the time, without static members.
    pub(crate) fn steady_group(group: u8, rng: &mut Rng) -> Self {
        Self {
            offers: Offers::draw_steady(rng),
            is_static: false,
            ..Self::group(group, rng)
        }
    }

    pub(crate) fn assign(group: u8, rng: &mut Rng) -> Self {
        Self {
            group,
            with_group: rng.bool(),
            subscribes: false,
            reset: reset(rng),
            offers: Offers::Range,
            is_static: false,
        }
    }

    pub(crate) fn group_id(&self) -> Option<String> {
        self.with_group.then(|| group_name(self.group))
    }

    pub(crate) fn committing_group(&self) -> Option<u8> {
        self.with_group.then_some(self.group)
    }

    /// Whether a member may be refused with this error for as long as others are counted that are gone: those that offer
    /// something else, or the one before it under the same `group.instance.id`.
    pub(crate) fn may_be_refused(&self, error: ErrorCode) -> bool {
        match self.offers {
            Offers::Changing(_) => error == ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            Offers::Nothing | Offers::Mixed { .. } => {
                self.is_static && error == ErrorCode::UNRELEASED_INSTANCE_ID
            }
            _ => false,
        }
    }

    /// The number of the static member in this place.
    pub(crate) fn instance(&self, slot: usize) -> Option<u32> {
        u32::try_from(slot).ok().filter(|_| self.is_static)
    }

    /// Of the next consumer in this place.
    pub(crate) fn config(&self, slot: usize, rng: &mut Rng) -> ConsumerConfig {
        let seconds = |rng: &mut Rng, choices: &[u64]| {
            Duration::from_secs(rng.choice(choices).copied().unwrap_or(10))
        };
        let millis = |rng: &mut Rng, choices: &[u64]| {
            Duration::from_millis(rng.choice(choices).copied().unwrap_or(10))
        };
        let request_timeout = seconds(rng, &[2, 10]);
        let mut config = ConsumerConfig {
            group_id: self.group_id(),
            group_instance_id: self
                .instance(slot)
                .map(|number| format!("instance-{number}")),
            session_timeout: seconds(rng, &[3, 6, 10, 45]),
            heartbeat_interval: millis(rng, &[300, 1_000, 2_000]),
            max_poll_interval: seconds(rng, &[5, 20, 60]),
            max_poll_records: rng.choice([1, 7, 500]).unwrap_or(500),
            assignors: self.offers.next(slot, rng),
            auto_offset_reset: match self.reset {
                Reset::Earliest => OffsetReset::Earliest,
                Reset::Latest => OffsetReset::Latest,
                Reset::Fail => OffsetReset::Fail,
            },
            enable_auto_commit: rng.bool(),
            auto_commit_interval: millis(rng, &[20, 1_000, 5_000]),
            check_crcs: rng.bool(),
            fetch_min_bytes: rng.choice([1, 1, 2_000]).unwrap_or(1),
            fetch_max_wait: millis(rng, &[10, 100, 500]),
            fetch_max_bytes: rng.choice([1, 300, 3_000, 50 << 20]).unwrap_or(1),
            max_partition_fetch_bytes: rng.choice([1, 300, 3_000, 1 << 20]).unwrap_or(1),
            queued_bytes_max: rng.choice([1, 1_000, 20_000, 64 << 20]).unwrap_or(1),
            queued_partition_bytes_max: rng.choice([1, 1_000, 20_000, 8 << 20]).unwrap_or(1),
            request_timeout,
            default_api_timeout: seconds(rng, &[5, 30, 60]),
            retry_backoff: millis(rng, &[10, 100]),
            blocking_threads: false,
            ..ConsumerConfig::default()
        };
        if self.offers.next_is_consumer(rng) {
            self.go_by_the_brokers(&mut config, rng);
        }
        config
    }

    /// By the consumer protocol, what the broker has to say is not set.
    fn go_by_the_brokers(&self, config: &mut ConsumerConfig, rng: &mut Rng) {
        let defaults = ConsumerConfig::default();
        let protocols = [
            GroupProtocol::Consumer,
            GroupProtocol::Consumer,
            GroupProtocol::Auto,
        ];
        config.group_protocol = rng.choice(protocols).unwrap_or(GroupProtocol::Consumer);
        config.assignors = defaults.assignors;
        config.session_timeout = defaults.session_timeout;
        config.heartbeat_interval = defaults.heartbeat_interval;
        let assignors = [None, Some("uniform"), Some("range")];
        let assignor = rng.choice(assignors).flatten();
        config.group_remote_assignor = assignor.map(str::to_owned);
    }
}

fn reset(rng: &mut Rng) -> Reset {
    rng.choice([
        Reset::Earliest,
        Reset::Earliest,
        Reset::Earliest,
        Reset::Latest,
        Reset::Fail,
    ])
    .unwrap_or(Reset::Earliest)
}
