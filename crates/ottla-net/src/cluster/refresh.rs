//! The task that asks the brokers for metadata.
//!
//! Asks one broker after the other until one answers, those that are connected first; when no known
//! broker does, the bootstrap servers (KIP-899). What to ask and when is the [cache](super::cache)'s.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ottla_wire::{ApiKey, ErrorCode};
use tokio::time::{Instant, sleep_until};

use crate::cluster::cache::Query;
use crate::cluster::{Inner, Progress};
use crate::config::MetadataRecovery;
use crate::error::{Error, Peer};
use crate::pool::Lane;
use crate::race::first_success;

pub(super) async fn run(inner: Arc<Inner>) {
    let work = async {
        loop {
            let (query, next) = {
                let mut cache = inner.cache.lock();
                (cache.poll_query(Instant::now()), cache.next_query_at())
            };
            match query {
                Some(query) => refresh(&inner, &query).await,
                None => {
                    tokio::select! {
                        biased;
                        () = inner.refresh.notified() => {}
                        () = inner.pool.lost.notified() => {
                            inner.cache.lock().request_refresh(Instant::now());
                        }
                        () = sleep_until_some(next) => {}
                    }
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = inner.closing.cancelled() => {}
        () = work => {}
    }
}

/// One query, told to the cache and to those who wait.
async fn refresh(inner: &Inner, query: &Query) {
    let outcome = ask(inner, query).await;
    let mut cache = inner.cache.lock();
    let now = Instant::now();
    let failure = match outcome {
        Ok((response, from_bootstrap)) => {
            if cache.handle_response(now, query, &response, fastrand::f64()) {
                inner.publish(cache.snapshot().clone());
            }
            let snapshot = cache.snapshot();
            inner
                .pool
                .close_moved(|node| snapshot.broker(node).map(|broker| broker.address.clone()));
            if from_bootstrap && snapshot.brokers().len() > 0 {
                inner.pool.close_bootstrap();
            }
            None
        }
        Err(error) => {
            tracing::debug!(%error, "no metadata");
            cache.handle_failure(now, fastrand::f64());
            if query.rebootstrap {
                cache.handle_rebootstrap_failure(now);
            }
            Some(error)
        }
    };
    let answers = cache.answers();
    drop(cache);
    inner.progress.send_replace(Progress { answers, failure });
}

/// Asks until somebody answers. Also says whether that was a bootstrap server.
async fn ask(inner: &Inner, query: &Query) -> Result<(MetadataResponse, bool), Error> {
    let snapshot = inner.snapshot.load_full();
    let mut known: Vec<Peer> = snapshot.brokers().map(|broker| broker.peer()).collect();
    fastrand::shuffle(&mut known);
    known.sort_by_key(|peer| {
        let connected = peer.node.is_some_and(|node| inner.pool.is_connected(node));
        (!connected, inner.pool.is_backing_off(peer))
    });
    let mut bootstrap: Vec<Peer> = inner
        .config
        .bootstrap_servers
        .iter()
        .map(|address| Peer {
            node: None,
            address: address.clone(),
        })
        .collect();
    fastrand::shuffle(&mut bootstrap);

    let mut failure = None;
    if !known.is_empty() && !query.rebootstrap {
        match ask_any(inner, query, known).await {
            Ok(response) => return Ok((response, false)),
            Err(error) if inner.config.metadata_recovery == MetadataRecovery::None => {
                return Err(error);
            }
            Err(error) => failure = Some(error),
        }
        tracing::debug!("no known broker tells about the cluster; asking the bootstrap servers");
    }
    match ask_any(inner, query, bootstrap).await {
        Ok(response) => Ok((response, true)),
        // What the brokers themselves said tells more than that the servers are no better.
        Err(error) => Err(failure.filter(Error::is_retriable).unwrap_or(error)),
    }
}

/// Asks one after the other, without waiting long for one that is silent.
async fn ask_any(
    inner: &Inner,
    query: &Query,
    peers: Vec<Peer>,
) -> Result<MetadataResponse, Error> {
    let attempts = peers.into_iter().map(|peer| ask_one(inner, query, peer));
    first_success(attempts, HEAD_START)
        .await
        .map_err(|failures: Vec<Error>| {
            // With one mistaken address among several the others may still come back.
            let retriable = failures.iter().rposition(Error::is_retriable);
            let chosen = retriable.unwrap_or(failures.len().saturating_sub(1));
            failures
                .into_iter()
                .nth(chosen)
                .unwrap_or(Error::NotKnownYet {
                    what: "any broker of the cluster",
                })
        })
}

async fn ask_one(inner: &Inner, query: &Query, peer: Peer) -> Result<MetadataResponse, Error> {
    let deadline = Instant::now() + inner.config.request_timeout;
    let connection = inner
        .pool
        .connection(&peer, Lane::Control, deadline)
        .await?;
    let version = connection.version::<MetadataRequest>(i16::MAX)?;
    let request = MetadataRequest {
        topics: query.topics.as_ref().map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name.clone()),
                    ..Default::default()
                })
                .collect()
        }),
        allow_auto_topic_creation: query.auto_create,
        ..Default::default()
    };
    let response = connection
        .submit(&request, version, connection.request_deadline())?
        .await?;
    let code = response.error_code;
    if code == ErrorCode::REBOOTSTRAP_REQUIRED {
        return Ok(response);
    }
    if code.is_err() {
        return Err(Error::Broker {
            peer,
            api: ApiKey::Metadata,
            code,
            message: None,
        });
    }
    if response.brokers.is_empty() {
        // A broker that has just started and knows nothing yet: another one knows more.
        return Err(Error::NotKnownYet {
            what: "any broker of the cluster",
        });
    }
    Ok(response)
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How long a broker may be silent before the next one is asked as well.
const HEAD_START: Duration = Duration::from_secs(1);
