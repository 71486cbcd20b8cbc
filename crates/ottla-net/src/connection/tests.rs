//! The driver over streams in memory, with the clock paused.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_wire::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use ottla_wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_wire::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use ottla_wire::{ApiKey, Message, Reader, RequestHeader, Str, VersionRange, encode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::address::Address;
use crate::error::{CloseCause, Error, ForeignAnswer, Peer, Sent};
use crate::testing::{Reply, ScriptedBroker};
use crate::transport::memory::MemoryNetwork;
use crate::transport::{BoxFuture, Stream};

const TIMEOUT: Duration = Duration::from_secs(30);

fn setup() -> Setup {
    Setup {
        peer: Peer {
            node: Some(1),
            address: address(),
        },
        client_id: "test".into(),
        authenticator: None,
        negotiation_timeout: Duration::from_secs(10),
        frame_bytes_max: 1 << 20,
        lifetime_max: None,
        limits: Limits {
            requests_max: 100_000,
            queue_bytes_max: 128 << 20,
            request_timeout: TIMEOUT,
            idle_max: None,
            retire_at: None,
        },
    }
}

fn address() -> Address {
    Address::new("broker", 9092)
}

async fn open_with(setup: Setup, stream: impl Stream) -> Result<Connection, Error> {
    let (connection, driver) = setup.handshake(Box::new(stream)).await?;
    tokio::spawn(driver.run());
    Ok(connection)
}

/// A connection to a broker with scripts.
async fn open_to(network: &MemoryNetwork) -> Connection {
    let connector = network.connector();
    let stream = connector.connect(&address(), TIMEOUT).await.unwrap();
    open_with(setup(), stream).await.unwrap()
}

/// A connection whose other end is in the test's hand, behind the handshake.
async fn open_raw() -> (Connection, RawBroker) {
    let (ours, theirs) = duplex(1 << 20);
    let mut broker = RawBroker(theirs);
    let (connection, ()) = tokio::join!(open_with(setup(), ours), broker.shake_hands());
    (connection.unwrap(), broker)
}

struct RawBroker(DuplexStream);

impl RawBroker {
    /// The next request: its correlation id, and the frame without its length.
    async fn request(&mut self) -> (i32, Bytes) {
        let len = self.0.read_i32().await.unwrap();
        let mut body = vec![0; len as usize];
        self.0.read_exact(&mut body).await.unwrap();
        let body = Bytes::from(body);
        let header = RequestHeader::decode(&mut Reader::new(body.clone())).unwrap();
        (header.correlation_id, body)
    }

    async fn shake_hands(&mut self) {
        let (id, _) = self.request().await;
        let response = ApiVersionsResponse {
            api_keys: [ApiKey::Heartbeat, ApiKey::ApiVersions]
                .map(|api| ApiVersion {
                    api_key: api as i16,
                    min_version: api.versions().min,
                    max_version: api.versions().max,
                    ..Default::default()
                })
                .into(),
            ..Default::default()
        };
        let version = ApiVersionsRequest::VERSIONS.max;
        let frame = encode_response::<ApiVersionsRequest>(&response, version, id).unwrap();
        self.write(&frame.to_bytes()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}

fn heartbeat(connection: &Connection, member: usize) -> Pending<HeartbeatRequest> {
    try_heartbeat(connection, member, Instant::now() + TIMEOUT).unwrap()
}

fn try_heartbeat(
    connection: &Connection,
    member: usize,
    deadline: Instant,
) -> Result<Pending<HeartbeatRequest>, Error> {
    let request = HeartbeatRequest {
        member_id: Str::from(member.to_string()),
        ..Default::default()
    };
    connection.submit(&request, 4, deadline)
}

/// The reply to a heartbeat, as the broker writes it.
fn beat(id: i32) -> Bytes {
    let response = HeartbeatResponse::default();
    encode_response::<HeartbeatRequest>(&response, 4, id)
        .unwrap()
        .to_bytes()
}

fn member(request: &HeartbeatRequest) -> i32 {
    request.member_id.parse().unwrap()
}

/// Answers heartbeats with the member's number in a place where the client sees it.
fn echo(broker: &ScriptedBroker) {
    broker.on::<HeartbeatRequest>(|request, _| {
        Reply::from(HeartbeatResponse {
            error_code: ottla_wire::ErrorCode((member(&request) % 1000) as i16),
            ..Default::default()
        })
    });
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_pipelined_requests_get_their_own_replies() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    echo(&broker);
    let connection = open_to(&network).await;
    let pending: Vec<_> = (0..10_000).map(|n| heartbeat(&connection, n)).collect();
    assert_eq!(connection.in_flight(), 10_000);
    for (n, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.unwrap().error_code.0, (n % 1000) as i16);
    }
    let stats = connection.stats();
    assert_eq!((stats.requests, stats.replies), (10_000, 10_000));
    assert!(stats.bytes_out > 10_000 * 10 && stats.bytes_in > 10_000 * 10);
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_that_carry_a_few_bytes_at_a_time_change_nothing() {
    for stream_bytes in 1..40 {
        let network = MemoryNetwork::with_stream_bytes(stream_bytes);
        let broker = ScriptedBroker::start(&network, 1, address());
        echo(&broker);
        let connection = open_to(&network).await;
        let pending: Vec<_> = (0..20).map(|n| heartbeat(&connection, n)).collect();
        for (n, pending) in pending.into_iter().enumerate() {
            assert_eq!(pending.await.unwrap().error_code.0, n as i16);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reply_leaves_the_others_theirs() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    echo(&broker);
    let connection = open_to(&network).await;
    let first = heartbeat(&connection, 1);
    drop(heartbeat(&connection, 2));
    let mut third = Box::pin(heartbeat(&connection, 3));
    // Polled once and dropped in the middle of waiting.
    assert!(timeout(Duration::ZERO, third.as_mut()).await.is_err());
    drop(third);
    let fourth = heartbeat(&connection, 4);
    assert_eq!(first.await.unwrap().error_code.0, 1);
    assert_eq!(fourth.await.unwrap().error_code.0, 4);
    assert_eq!(
        broker.count(ApiKey::Heartbeat),
        4,
        "a dropped reply's request is sent all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn death_in_the_middle_of_a_reply_fails_exactly_the_unanswered() {
    let whole = beat(0).len();
    for cut in 0..whole {
        let (connection, mut broker) = open_raw().await;
        let (first, second) = (heartbeat(&connection, 1), heartbeat(&connection, 2));
        let (id, _) = broker.request().await;
        broker.write(&beat(id)).await;
        let (id, _) = broker.request().await;
        broker.write(&beat(id)[..cut]).await;
        drop(broker);
        first.await.unwrap();
        let error = second.await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Disconnected {
                    cause: CloseCause::ByPeer,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!((error.sent(), error.is_retriable()), (Sent::Maybe, true));
        connection.ended().await;
        let error = try_heartbeat(&connection, 3, Instant::now() + TIMEOUT).unwrap_err();
        assert_eq!((error.sent(), error.is_retriable()), (Sent::No, true));
        assert!(!connection.is_usable() && connection.has_ended());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_up_at_the_first_request_may_want_sasl() {
    let (connection, mut broker) = open_raw().await;
    let pending = heartbeat(&connection, 1);
    broker.request().await;
    drop(broker);
    let text = pending.await.unwrap_err().to_string();
    assert!(
        text.contains("SASL") && text.contains("broker 1 at broker:9092"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn replies_in_the_wrong_order_end_the_connection() {
    let (connection, mut broker) = open_raw().await;
    let (first, second) = (heartbeat(&connection, 1), heartbeat(&connection, 2));
    broker.request().await;
    let (id, _) = broker.request().await;
    broker.write(&beat(id)).await;
    for pending in [first, second] {
        let error = pending.await.unwrap_err();
        assert!(matches!(
            &error,
            Error::Disconnected {
                cause: CloseCause::Protocol(_),
                ..
            }
        ));
        assert!(error.to_string().contains("correlation id"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_that_cannot_be_right_end_the_connection_at_once() {
    for (length, too_large) in [
        (i32::MAX, true),
        ((1 << 20) + 1, true),
        (0x1503_0100, true),
        (-1, false),
        (i32::MIN, false),
        (0, false),
        (3, false),
    ] {
        let (connection, mut broker) = open_raw().await;
        let start = Instant::now();
        let (first, second) = (heartbeat(&connection, 1), heartbeat(&connection, 2));
        broker.request().await;
        broker.write(&length.to_be_bytes()).await;
        let (first, second) = (first.await.unwrap_err(), second.await.unwrap_err());
        assert_eq!(
            matches!(first, Error::ResponseTooLarge { .. }),
            too_large,
            "{first}"
        );
        assert_eq!(first.is_retriable(), !too_large);
        assert!(second.is_retriable() && second.to_string().contains(&length.to_string()));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_such_response_fails_only_itself() {
    let (connection, mut broker) = open_raw().await;
    let (first, second) = (heartbeat(&connection, 1), heartbeat(&connection, 2));
    let (id, _) = broker.request().await;
    let mut nonsense = BytesMut::new();
    nonsense.put_i32(5);
    nonsense.put_i32(id);
    nonsense.put_u8(0xff);
    broker.write(&nonsense).await;
    let (id, _) = broker.request().await;
    broker.write(&beat(id)).await;
    let error = first.await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Decode {
                api: ApiKey::Heartbeat,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!((error.is_retriable(), error.sent()), (false, Sent::Maybe));
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_costs_each_request_its_deadline_and_then_the_connection() {
    let (connection, mut broker) = open_raw().await;
    let start = Instant::now();
    let hasty = try_heartbeat(&connection, 1, start + Duration::from_secs(2)).unwrap();
    let patient = try_heartbeat(&connection, 2, start + Duration::from_secs(50)).unwrap();
    broker.request().await;
    let error = hasty.await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TimedOut {
                sent: Sent::Maybe,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert!(connection.is_usable());
    let error = patient.await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Disconnected {
                cause: CloseCause::Silent(_),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(start.elapsed(), TIMEOUT);
    assert!(!connection.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_reads_nothing_is_given_up_and_the_unsent_known_as_such() {
    let (ours, theirs) = duplex(700);
    let mut broker = RawBroker(theirs);
    let (connection, ()) = tokio::join!(open_with(setup(), ours), broker.shake_hands());
    let connection = connection.unwrap();
    let start = Instant::now();
    let pending: Vec<_> = (0..100).map(|n| heartbeat(&connection, n)).collect();
    let mut sent = Vec::new();
    for pending in pending {
        sent.push(pending.await.unwrap_err().sent());
    }
    assert_eq!(start.elapsed(), TIMEOUT);
    assert!(connection.has_ended());
    // What the stream took may have been read; the rest was with the driver or behind it.
    assert_eq!(sent[0], Sent::Maybe);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_connection_waits_before_it_sends_again() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    let throttle = |ms| {
        Reply::from(HeartbeatResponse {
            throttle_time_ms: ms,
            ..Default::default()
        })
    };
    broker.queue::<HeartbeatRequest>([throttle(90_000), throttle(0), throttle(-5)]);
    let connection = open_to(&network).await;
    let start = Instant::now();
    heartbeat(&connection, 1).await.unwrap();
    assert_eq!(connection.muted_for(), Duration::from_secs(90));
    // Longer than the request's patience, and yet no failure.
    heartbeat(&connection, 2).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(90));
    heartbeat(&connection, 3).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(90));
}

#[tokio::test(start_paused = true)]
async fn requests_without_reply_are_told_when_written() {
    let (connection, mut broker) = open_raw().await;
    let request = HeartbeatRequest::default();
    let deadline = connection.request_deadline();
    let written = connection.submit_no_reply(&request, 4, deadline).unwrap();
    let answered = heartbeat(&connection, 2);
    written.await.unwrap();
    broker.request().await;
    let (id, _) = broker.request().await;
    broker.write(&beat(id)).await;
    answered.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn versions_are_the_highest_common_ones() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    broker.speak(ApiKey::Heartbeat, Some(VersionRange::new(1, 3)));
    broker.speak(ApiKey::SaslAuthenticate, None);
    broker.finalize_feature("transaction.version", 2);
    let connection = open_to(&network).await;
    assert_eq!(connection.version::<HeartbeatRequest>(i16::MAX).unwrap(), 3);
    assert_eq!(connection.version::<HeartbeatRequest>(2).unwrap(), 2);
    let error = connection.version::<HeartbeatRequest>(0).unwrap_err();
    assert!(error.to_string().contains("offers 1 to 3"), "{error}");
    let error = connection
        .version::<SaslAuthenticateRequest>(9)
        .unwrap_err();
    assert!(matches!(error, Error::Unsupported { offered: None, .. }));
    assert_eq!(
        connection
            .versions()
            .finalized_feature("transaction.version"),
        2
    );
    assert_eq!(connection.versions().finalized_feature("kraft.version"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_api_versions_is_found_in_two_steps() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    broker.speak(ApiKey::ApiVersions, Some(VersionRange::new(0, 2)));
    echo(&broker);
    let connection = open_to(&network).await;
    heartbeat(&connection, 7).await.unwrap();
    let newest = ApiVersionsRequest::VERSIONS.max;
    let asked: Vec<_> = broker.log().into_iter().take(2).collect();
    assert_eq!(
        asked,
        [(ApiKey::ApiVersions, newest), (ApiKey::ApiVersions, 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn who_answers_in_place_of_a_broker_is_named() {
    for (answer, expected) in [
        (
            &b"\x15\x03\x01\x00\x02\x02\x46"[..],
            Some(ForeignAnswer::Tls),
        ),
        (b"\x15\x03\x03", None),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            Some(ForeignAnswer::Http),
        ),
        (b"SSH-2.0-x\r\n", Some(ForeignAnswer::Other(*b"SSH-"))),
        (b"", None),
        (b"\xff\xff\xff\xff", None),
    ] {
        let (ours, theirs) = duplex(1 << 16);
        let mut broker = RawBroker(theirs);
        let serving = async {
            broker.request().await;
            broker.write(answer).await;
            drop(broker);
        };
        let (outcome, ()) = tokio::join!(open_with(setup(), ours), serving);
        let error = outcome.unwrap_err();
        match expected {
            Some(answer) => {
                assert!(matches!(&error, Error::NotKafka { answer: a, .. } if *a == answer));
                assert!(!error.is_retriable());
            }
            None => assert!(
                matches!(
                    error,
                    Error::Handshake {
                        retriable: true,
                        ..
                    }
                ),
                "{error}"
            ),
        }
        assert_eq!(error.sent(), Sent::No);
        assert!(error.to_string().contains("broker:9092"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_handshake_ends_in_time() {
    let (ours, _theirs) = duplex(1 << 16);
    let start = Instant::now();
    let error = open_with(setup(), ours).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert!(
        error.is_retriable() && error.to_string().contains("did not answer"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_handshake_answered_byte_by_byte_does_not_outlast_its_time() {
    let (ours, theirs) = duplex(1 << 16);
    let mut broker = RawBroker(theirs);
    let serving = async move {
        broker.request().await;
        broker.write(&100_000_i32.to_be_bytes()).await;
        loop {
            sleep(Duration::from_secs(1)).await;
            if broker.0.write_all(&[0]).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(serving);
    let start = Instant::now();
    assert!(open_with(setup(), ours).await.unwrap_err().is_retriable());
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_driver_dropped_with_its_runtime_leaves_nobody_waiting() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    broker.on::<HeartbeatRequest>(|_, _| Reply::Silence);
    let stream = network
        .connector()
        .connect(&address(), TIMEOUT)
        .await
        .unwrap();
    let (connection, driver) = setup().handshake(stream).await.unwrap();
    let task = tokio::spawn(driver.run());
    let pending = heartbeat(&connection, 1);
    task.abort();
    assert!(matches!(
        pending.await,
        Err(Error::Disconnected {
            cause: CloseCause::ByClient,
            ..
        })
    ));
    assert!(connection.has_ended());
}

/// What SASL will be: an exchange between versions and readiness.
struct Password(&'static str);

impl Authenticator for Password {
    fn authenticate<'a>(
        &'a self,
        handshake: &'a mut Handshake,
    ) -> BoxFuture<'a, Result<Session, Error>> {
        Box::pin(async move {
            let version = handshake.version::<SaslAuthenticateRequest>(i16::MAX)?;
            let request = SaslAuthenticateRequest {
                auth_bytes: Bytes::from_static(self.0.as_bytes()),
                ..Default::default()
            };
            let response = handshake.call(&request, version).await?;
            if response.error_code.is_err() {
                return Err(Error::Authentication {
                    peer: handshake.peer().clone(),
                    reason: response.error_message.unwrap_or_default().to_string(),
                });
            }
            Ok(Session {
                lifetime: Some(Duration::from_millis(response.session_lifetime_ms as u64)),
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn authentication_comes_between_versions_and_readiness() {
    let network = MemoryNetwork::new();
    let broker = ScriptedBroker::start(&network, 1, address());
    echo(&broker);
    broker.on::<SaslAuthenticateRequest>(|request, _| {
        Reply::from(match &*request.auth_bytes {
            b"right" => SaslAuthenticateResponse {
                session_lifetime_ms: 60_000,
                ..Default::default()
            },
            _ => SaslAuthenticateResponse {
                error_code: ottla_wire::ErrorCode::SASL_AUTHENTICATION_FAILED,
                error_message: Some("no".into()),
                ..Default::default()
            },
        })
    });
    let open = |password| {
        let connector = network.connector();
        async move {
            let stream = connector.connect(&address(), TIMEOUT).await.unwrap();
            let authenticator: Arc<dyn Authenticator> = Arc::new(Password(password));
            let setup = Setup {
                authenticator: Some(authenticator),
                ..setup()
            };
            open_with(setup, stream).await
        }
    };
    let error = open("wrong").await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }) && !error.is_retriable());

    let connection = open("right").await.unwrap();
    heartbeat(&connection, 1).await.unwrap();
    // The session lasts a minute; before that the connection asks to be replaced.
    sleep(Duration::from_secs(50)).await;
    assert!(connection.is_usable());
    sleep(Duration::from_secs(8)).await;
    assert!(!connection.is_usable());
    connection.ended().await;
}
