//! Who shares a connection, and when it is made, closed and made again.

use super::*;

#[tokio::test(start_paused = true)]
async fn callers_share_a_connection_and_lanes_do_not() {
    let brokers = ScriptedCluster::start(3);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (a, b, c, d) = tokio::join!(
            cluster.connection(2, Lane::Produce, within(5)),
            cluster.connection(2, Lane::Produce, within(5)),
            cluster.connection(2, Lane::Fetch, within(5)),
            cluster.connection(3, Lane::Produce, within(5)),
        );
        ids.push([a, b, c, d].map(|connection| connection.unwrap().id()));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0][0], ids[0][1]);
    assert!(ids[0][1] != ids[0][2] && ids[0][2] != ids[0][3] && ids[0][1] != ids[0][3]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_take_the_connection_from_the_others() {
    let brokers = ScriptedCluster::start(1);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    let before = brokers.broker(1).connections();
    // The handshake takes a second from now on.
    use ottla_wire::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
    brokers.broker(1).on::<ApiVersionsRequest>(|_, _| {
        Reply::after(
            SECOND,
            ApiVersionsResponse {
                api_keys: [ApiKey::Heartbeat, ApiKey::Metadata]
                    .map(|api| ApiVersion {
                        api_key: api as i16,
                        min_version: api.versions().min,
                        max_version: api.versions().max,
                        ..Default::default()
                    })
                    .into(),
                ..Default::default()
            },
        )
    });
    let impatient = timeout(SECOND / 2, cluster.connection(1, Lane::Fetch, within(9)));
    let (impatient, patient) =
        tokio::join!(impatient, cluster.connection(1, Lane::Fetch, within(9)));
    assert!(impatient.is_err() && patient.is_ok());
    assert_eq!(brokers.broker(1).connections(), before + 1);

    // Even if all give up, what was begun serves whoever asks next.
    let start = Instant::now();
    let error = cluster
        .connection(1, Lane::Produce, start + SECOND / 2)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Deadline { .. }) && error.to_string().contains("broker 1"));
    cluster
        .connection(1, Lane::Produce, within(9))
        .await
        .unwrap();
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_is_not_hammered() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    brokers.broker(2).kill();
    let start = Instant::now();
    let mut attempts = 0;
    while start.elapsed() < 20 * SECOND {
        let error = cluster
            .connection(2, Lane::Produce, within(60))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(
            error.to_string().contains("advertised.listeners"),
            "{error}"
        );
        attempts += 1;
    }
    assert!((15..40).contains(&attempts), "{attempts} attempts in 20 s");
    // With less time than the rest lasts the answer is not worth waiting for.
    let now = Instant::now();
    let error = cluster.connection(2, Lane::Produce, now).await.unwrap_err();
    assert!(error.is_retriable() && now.elapsed() == Duration::ZERO);
    brokers.broker(2).restart();
    cluster
        .connection(2, Lane::Produce, within(60))
        .await
        .unwrap();
}

/// An authenticator with a fault.
struct Panics(AtomicUsize);

impl crate::Authenticator for Panics {
    fn authenticate<'a>(
        &'a self,
        _: &'a mut crate::Handshake,
    ) -> crate::transport::BoxFuture<'a, Result<crate::Session, Error>> {
        let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(!first, "the fault that this test is about");
        Box::pin(async { Ok(crate::Session::default()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_authenticator_is_an_error_and_blocks_nothing() {
    let brokers = ScriptedCluster::start(1);
    let mut config = brokers.config();
    config.authenticator = Some(Arc::new(Panics(AtomicUsize::new(0))));
    let cluster = brokers.connect_with(config);
    let error = cluster.ready(within(9)).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    cluster.ready(within(9)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_made_again() {
    let brokers = ScriptedCluster::start(1);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    let connection = cluster
        .connection(1, Lane::Coordination, within(9))
        .await
        .unwrap();
    assert!(!cluster.connections().is_empty());
    sleep(541 * SECOND).await;
    assert!(connection.has_ended());
    let error = connection
        .submit(&HeartbeatRequest::default(), 4, within(9))
        .unwrap_err();
    assert!(matches!(
        &error,
        Error::Disconnected {
            cause: CloseCause::Idle,
            sent: Sent::No,
            ..
        }
    ));
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_aged_produce_connection_is_replaced_when_it_is_drained() {
    let brokers = ScriptedCluster::start(1);
    brokers
        .broker(1)
        .on::<HeartbeatRequest>(|_, _| Reply::after(15 * SECOND, HeartbeatResponse::default()));
    let mut config = brokers.config();
    config.connection_lifetime_max = Some(10 * SECOND);
    let cluster = brokers.connect_with(config);
    cluster.ready(within(9)).await.unwrap();
    let start = Instant::now();
    let old = cluster
        .connection(1, Lane::Produce, within(60))
        .await
        .unwrap();
    let pending = old
        .submit(&HeartbeatRequest::default(), 4, within(60))
        .unwrap();
    sleep(11 * SECOND).await;
    let (new, answered) = tokio::join!(cluster.connection(1, Lane::Produce, within(60)), pending);
    answered.unwrap();
    assert_ne!(new.unwrap().id(), old.id());
    assert_eq!(start.elapsed(), 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_replaced_and_the_others_go_on() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    heartbeat(&cluster, To::Node(2), within(9)).await.unwrap();
    brokers.broker(2).fall_silent();
    let silent = cluster.clone();
    let waiting = tokio::spawn(async move { heartbeat(&silent, To::Node(2), within(100)).await });
    for _ in 0..20 {
        heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
        sleep(SECOND).await;
    }
    brokers.broker(2).restart();
    waiting.await.unwrap().unwrap();
}
