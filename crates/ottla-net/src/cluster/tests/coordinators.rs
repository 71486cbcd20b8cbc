//! Coordinators, looked up for all who wait for one.

use super::*;

#[tokio::test(start_paused = true)]
async fn two_callers_share_a_lookup_and_one_may_give_up() {
    let brokers = ScriptedCluster::start(3);
    let asked = Arc::new(AtomicUsize::new(0));
    for broker in brokers.brokers() {
        let asked = asked.clone();
        broker.on::<FindCoordinatorRequest>(move |request, _| {
            asked.fetch_add(1, Ordering::Relaxed);
            let coordinators = request.coordinator_keys.iter().map(|key| {
                ottla_wire::messages::find_coordinator::Coordinator {
                    key: key.clone(),
                    node_id: 3,
                    host: "broker-3".into(),
                    port: 9092,
                    ..Default::default()
                }
            });
            Reply::after(
                5 * SECOND,
                ottla_wire::messages::find_coordinator::FindCoordinatorResponse {
                    coordinators: coordinators.collect(),
                    ..Default::default()
                },
            )
        });
    }
    let cluster = brokers.connect();
    cluster.ready(within(5)).await.unwrap();
    let start = Instant::now();
    // The one that started the look-up leaves first.
    let impatient = timeout(2 * SECOND, cluster.coordinator(GROUP, "g", within(60)));
    let (impatient, patient) = tokio::join!(impatient, cluster.coordinator(GROUP, "g", within(60)));
    assert!(impatient.is_err());
    assert_eq!(patient.unwrap(), 3);
    assert_eq!(
        (asked.load(Ordering::Relaxed), start.elapsed()),
        (1, 5 * SECOND)
    );
    // Remembered.
    assert_eq!(
        cluster.coordinator(GROUP, "g", within(60)).await.unwrap(),
        3
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_is_found_again() {
    let brokers = ScriptedCluster::start(3);
    let cluster = beating(&brokers);
    let to = To::Coordinator(GROUP, "g");
    brokers.set_coordinator("g", Ok(2));
    heartbeat(&cluster, to, within(9)).await.unwrap();
    brokers.set_coordinator("g", Ok(3));
    brokers.broker(2).on::<HeartbeatRequest>(|_, _| {
        Reply::from(HeartbeatResponse {
            error_code: ErrorCode::NOT_COORDINATOR,
            ..Default::default()
        })
    });
    let check = |response: &HeartbeatResponse| response.error_code;
    let request = |_| HeartbeatRequest::default();
    let response = cluster
        .call_checked(to, Lane::Coordination, 9, request, check, within(9))
        .await
        .unwrap();
    assert_eq!(response.error_code, ErrorCode::NONE);
    assert_eq!(brokers.broker(3).count(ApiKey::Heartbeat), 1);

    // A coordinator that died is found again as well.
    brokers.set_coordinator("g", Ok(1));
    brokers.broker(3).kill();
    heartbeat(&cluster, to, within(9)).await.unwrap();
    assert_eq!(brokers.broker(1).count(ApiKey::Heartbeat), 1);
}

#[tokio::test(start_paused = true)]
async fn coordinators_of_old_brokers_are_asked_for_one_by_one() {
    let brokers = ScriptedCluster::start(1);
    let old = Some(VersionRange::new(0, 2));
    brokers.broker(1).speak(ApiKey::FindCoordinator, old);
    brokers.set_coordinator("h", Err(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let cluster = brokers.connect();
    let (g, h) = tokio::join!(
        cluster.coordinator(GROUP, "g", within(9)),
        cluster.coordinator(GROUP, "h", within(9)),
    );
    assert_eq!(g.unwrap(), 1);
    let error = h.unwrap_err();
    assert!(
        matches!(error, Error::Coordinator { .. }) && !error.is_retriable(),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_nobody_is_yet_is_waited_for() {
    let brokers = ScriptedCluster::start(1);
    brokers.set_coordinator("g", Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let cluster = brokers.connect();
    let electing = async {
        sleep(4 * SECOND).await;
        brokers.set_coordinator("g", Ok(1));
    };
    let (found, ()) = tokio::join!(cluster.coordinator(GROUP, "g", within(9)), electing);
    assert_eq!(found.unwrap(), 1);
    brokers.set_coordinator("h", Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let error = cluster
        .coordinator(GROUP, "h", within(9))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("COORDINATOR_NOT_AVAILABLE"),
        "{error}"
    );
    assert!(error.is_retriable());
}
