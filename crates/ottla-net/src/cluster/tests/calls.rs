//! One request, tried again until its deadline.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_outlives_the_restart_of_its_broker() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Node(2), within(5)).await.unwrap();
    brokers.broker(2).kill();
    let restarting = async {
        sleep(10 * SECOND).await;
        brokers.broker(2).restart();
    };
    let start = Instant::now();
    let (outcome, ()) = tokio::join!(heartbeat(&cluster, To::Node(2), within(60)), restarting);
    outcome.unwrap();
    assert!(start.elapsed() < 13 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_at_its_deadline_with_the_last_error() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    brokers.broker(2).kill();
    let start = Instant::now();
    let error = heartbeat(&cluster, To::Node(2), within(7))
        .await
        .unwrap_err();
    assert!(start.elapsed() <= 7 * SECOND && start.elapsed() > 5 * SECOND);
    assert!(error.is_timeout() && error.sent() == Sent::No, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");

    brokers.broker(2).restart();
    brokers
        .broker(2)
        .on::<HeartbeatRequest>(|_, _| Reply::Silence);
    let error = heartbeat(&cluster, To::Node(2), within(7))
        .await
        .unwrap_err();
    assert_eq!(error.sent(), Sent::Maybe, "{error}");
    assert!(error.is_timeout());
}

#[tokio::test(start_paused = true)]
async fn an_api_that_the_broker_lacks_is_told_at_once() {
    let brokers = ScriptedCluster::start(1);
    brokers.broker(1).speak(ApiKey::Heartbeat, None);
    let cluster = beating(&brokers);
    let error = heartbeat(&cluster, To::Any, within(60)).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn codes_that_pass_are_tried_again_and_others_returned() {
    let brokers = ScriptedCluster::start(1);
    let codes = [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
    ];
    brokers
        .broker(1)
        .queue::<HeartbeatRequest>(codes.map(|error_code| {
            Reply::from(HeartbeatResponse {
                error_code,
                ..Default::default()
            })
        }));
    let cluster = brokers.connect();
    let check = |response: &HeartbeatResponse| response.error_code;
    let request = |_| HeartbeatRequest::default();
    let response = cluster
        .call_checked(To::Any, Lane::Coordination, 9, request, check, within(9))
        .await
        .unwrap();
    assert_eq!(response.error_code, ErrorCode::ILLEGAL_GENERATION);

    // At the deadline a code is an answer all the same.
    brokers.broker(1).on::<HeartbeatRequest>(|_, _| {
        Reply::from(HeartbeatResponse {
            error_code: ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ..Default::default()
        })
    });
    let response = cluster
        .call_checked(To::Any, Lane::Coordination, 9, request, check, within(9))
        .await
        .unwrap();
    assert_eq!(response.error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_longer_than_the_request_timeout_is_waited_for() {
    let brokers = ScriptedCluster::start(1);
    let throttled = HeartbeatResponse {
        throttle_time_ms: 100_000,
        ..Default::default()
    };
    let free = HeartbeatResponse::default();
    let replies = [Reply::from(throttled), Reply::from(free)];
    brokers.broker(1).queue::<HeartbeatRequest>(replies);
    let cluster = brokers.connect();
    let start = Instant::now();
    heartbeat(&cluster, To::Node(1), within(600)).await.unwrap();
    heartbeat(&cluster, To::Node(1), within(600)).await.unwrap();
    assert_eq!(start.elapsed(), 100 * SECOND);
    assert_eq!(brokers.broker(1).count(ApiKey::Heartbeat), 2);
}
