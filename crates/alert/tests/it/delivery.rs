//! Events on their way: signed, tried again, given up, and never held up by each other.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use plimsoll_alert::{AlertOptions, Deliverer, DelivererHandle, Secret, Secrets, SinkConfig};
use plimsoll_catalog::{DeliveryOutcome, DeliveryState};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::catalog::{Outbox, START, Time};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = r#"{"specversion":"1.0","id":"evt_1", "data":{"n":1e2,"text":"é"}}"#;

fn sink(name: &str, url: &str) -> SinkConfig {
    SinkConfig { allow_private: true, ..SinkConfig::webhook(name, url, SECRET) }
}

/// A deliverer at work.
struct Running {
    handle: DelivererHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn start(sinks: Vec<SinkConfig>, outbox: &Arc<Outbox>, time: &Time) -> Running {
    // The outbox is looked into when a test says so.
    let options = AlertOptions { poll_interval: Duration::from_secs(3600), ..AlertOptions::new(sinks) };
    let deliverer = Deliverer::new(options, outbox.clone(), time.clock()).expect("the sinks are good");
    let handle = deliverer.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        deliverer.run(stopped).await;
    });
    Running { handle, stop, task }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("it ends well");
    }
}

async fn answering(responses: Vec<ResponseTemplate>) -> MockServer {
    let server = MockServer::start().await;
    for response in responses {
        Mock::given(method("POST")).and(path("/hook")).respond_with(response).up_to_n_times(1).mount(&server).await;
    }
    Mock::given(method("POST")).and(path("/hook")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    server
}

async fn received(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.expect("requests are kept")
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).unwrap_or_else(|| panic!("`{name}` is sent")).to_str().expect("is text")
}

/// Verifies a signature as a receiver would, from the documentation of the standard alone.
fn verified(request: &Request, secret: &str) -> bool {
    let key = base64::engine::general_purpose::STANDARD.decode(&secret["whsec_".len()..]).expect("is base64");
    let mut signed =
        format!("{}.{}.", header(request, "webhook-id"), header(request, "webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&request.body);
    header(request, "webhook-signature").split(' ').filter_map(|part| part.strip_prefix("v1,")).any(|part| {
        let signature = base64::engine::general_purpose::STANDARD.decode(part).expect("is base64");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("any length");
        mac.update(&signed);
        mac.verify_slice(&signature).is_ok()
    })
}

#[tokio::test]
async fn an_event_is_sent_as_it_was_stored_and_its_signature_holds() {
    let server = answering(vec![]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    let new = "whsec_bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3";
    let mut config = sink("ops", &format!("{}/hook", server.uri()));
    config.secret = Secrets::Many(vec![Secret::new(SECRET), Secret::new(new)]);
    config.headers.insert("x-team".to_owned(), Secret::new("shop"));
    outbox.queue("evt_1", "ops", BODY, time.now());
    let running = start(vec![config], &outbox, &time);
    assert_eq!(
        outbox.settled(1).await,
        [("evt_1".to_owned(), "ops".to_owned(), DeliveryOutcome::Delivered { at: time.now() })]
    );
    let requests = received(&server).await;
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.body, BODY.as_bytes());
    assert_eq!(header(request, "content-type"), "application/cloudevents+json");
    assert_eq!(header(request, "webhook-id"), "evt_1");
    assert_eq!(header(request, "webhook-timestamp"), START.to_string());
    assert_eq!(header(request, "x-team"), "shop");
    assert!(verified(request, SECRET) && verified(request, new));
    assert!(!verified(request, "whsec_b3RoZXI="), "another key does not fit");
    let (_, status) = &running.handle.counters()[0];
    assert_eq!((status.delivered, status.retried, status.failed, status.pending), (1, 0, 0, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_retry_keeps_id_and_bytes_and_is_signed_anew() {
    let server = answering(vec![ResponseTemplate::new(500).set_body_string("database\u{7} down")]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let running = start(vec![sink("ops", &format!("{}/hook", server.uri()))], &outbox, &time);
    let settled = outbox.settled(1).await;
    let DeliveryOutcome::Retry { due_at, error } = &settled[0].2 else { panic!("{settled:?}") };
    assert_eq!(error, "answered 500 Internal Server Error: database  down");
    let delay = due_at.since(time.now()).as_secs_f64();
    assert!((2.5..=5.0).contains(&delay), "{delay}");
    assert_eq!(running.handle.counters()[0].1.pending, 1);
    time.pass(Duration::from_secs(6));
    running.handle.notify();
    let settled = outbox.settled(2).await;
    assert_eq!(settled[1].2, DeliveryOutcome::Delivered { at: time.now() });
    let requests = received(&server).await;
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (&requests[0].body, header(&requests[0], "webhook-id")),
        (&requests[1].body, header(&requests[1], "webhook-id"))
    );
    assert_eq!(header(&requests[1], "webhook-timestamp"), (START + 6).to_string());
    assert!(requests.iter().all(|request| verified(request, SECRET)));
    let (_, status) = &running.handle.counters()[0];
    assert_eq!((status.delivered, status.retried, status.failed, status.pending), (1, 1, 0, 0));
    assert_eq!(status.last_error, "");
    running.stop().await;
}

#[tokio::test]
async fn retry_after_is_kept_up_to_a_limit() {
    let date = "Tue, 14 Nov 2023 22:18:20 GMT"; // 300 s after the start
    let server = answering(vec![
        ResponseTemplate::new(429).insert_header("retry-after", "120"),
        ResponseTemplate::new(503).insert_header("retry-after", date),
        ResponseTemplate::new(503).insert_header("retry-after", "86400"),
    ])
    .await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let running = start(vec![sink("ops", &format!("{}/hook", server.uri()))], &outbox, &time);
    for (attempt, (wait, now)) in [(120, 0), (180, 120), (600, 300)].into_iter().enumerate() {
        let settled = outbox.settled(attempt + 1).await;
        let DeliveryOutcome::Retry { due_at, .. } = &settled[attempt].2 else { panic!("{settled:?}") };
        assert_eq!(time.now().0 / 1_000_000_000 - START, now);
        assert_eq!(due_at.since(time.now()), Duration::from_secs(wait), "attempt {attempt}");
        time.pass(Duration::from_secs(wait));
        running.handle.notify();
    }
    assert!(matches!(outbox.settled(4).await[3].2, DeliveryOutcome::Delivered { .. }));
    running.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_said_to_be_one() {
    let elsewhere = answering(vec![]).await;
    let to = format!("{}/hook", elsewhere.uri());
    let server = answering(vec![ResponseTemplate::new(307).insert_header("location", to.as_str())]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let running = start(vec![sink("ops", &format!("{}/hook", server.uri()))], &outbox, &time);
    let settled = outbox.settled(1).await;
    let DeliveryOutcome::Retry { error, .. } = &settled[0].2 else { panic!("{settled:?}") };
    // Where it leads, but not the path: that may repeat a secret.
    assert_eq!(
        *error,
        format!(
            "answered 307 Temporary Redirect to `{}`, and redirects are not followed: change `url`",
            elsewhere.uri()
        )
    );
    assert!(received(&elsewhere).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_gone_gets_nothing_more_until_a_restart() {
    let server = answering(vec![ResponseTemplate::new(410)]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    for event in ["evt_1", "evt_2"] {
        outbox.queue(event, "ops", BODY, time.now());
    }
    let sinks = || vec![sink("ops", &format!("{}/hook", server.uri()))];
    let running = start(sinks(), &outbox, &time);
    let settled = outbox.settled(2).await;
    assert!(
        matches!(&settled[0].2, DeliveryOutcome::Failed { error } if error.starts_with("answered 410 Gone")),
        "{settled:?}"
    );
    assert!(matches!(&settled[1].2, DeliveryOutcome::Failed { error } if error.contains("restart")), "{settled:?}");
    assert_eq!(received(&server).await.len(), 1);
    let (_, status) = &running.handle.counters()[0];
    assert_eq!((status.failed, status.pending, status.disabled), (2, 0, true));
    running.stop().await;
    outbox.queue("evt_3", "ops", BODY, time.now());
    let running = start(sinks(), &outbox, &time);
    assert!(matches!(outbox.settled(3).await[2].2, DeliveryOutcome::Delivered { .. }));
    running.stop().await;
}

#[tokio::test]
async fn an_event_is_tried_for_a_day_and_then_given_up() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(404)).mount(&server).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let running = start(vec![sink("ops", &server.uri())], &outbox, &time);
    let mut attempts = 1;
    loop {
        let settled = outbox.settled(attempts).await;
        match &settled[attempts - 1].2 {
            DeliveryOutcome::Retry { due_at, .. } => time.pass(due_at.since(time.now())),
            DeliveryOutcome::Failed { error } => {
                assert!(
                    error.starts_with(&format!("given up after {attempts} attempts in 86400s: answered 404")),
                    "{error}"
                );
                break;
            }
            DeliveryOutcome::Delivered { .. } => panic!("404 is no success"),
        }
        attempts += 1;
        running.handle.notify();
    }
    assert!((140..320).contains(&attempts), "{attempts}");
    assert_eq!(time.now().0 / 1_000_000_000, START + 86_400, "the last attempt is made at the end of the day");
    running.stop().await;
}

#[tokio::test]
async fn an_event_is_delivered_by_the_next_process_after_a_restart_between_attempts() {
    let server = answering(vec![ResponseTemplate::new(500)]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let sinks = || vec![sink("ops", &format!("{}/hook", server.uri()))];
    let first = start(sinks(), &outbox, &time);
    outbox.settled(1).await;
    first.stop().await;
    time.pass(Duration::from_secs(6));
    let second = start(sinks(), &outbox, &time);
    assert!(matches!(outbox.settled(2).await[1].2, DeliveryOutcome::Delivered { .. }));
    assert_eq!(outbox.rows()[0].state, DeliveryState::Delivered);
    second.stop().await;
}

#[tokio::test]
async fn an_event_whose_attempt_was_cut_off_by_a_crash_is_sent_again_with_the_same_id() {
    let slow = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_delay(Duration::from_secs(3600)))
        .mount(&slow)
        .await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let mut config = sink("ops", &slow.uri());
    config.timeout = Duration::from_secs(60);
    let first = start(vec![config], &outbox, &time);
    while received(&slow).await.is_empty() {
        tokio::task::yield_now().await;
    }
    first.task.abort();
    let server = answering(vec![]).await;
    let second = start(vec![sink("ops", &format!("{}/hook", server.uri()))], &outbox, &time);
    time.pass(Duration::from_secs(181));
    second.handle.notify();
    assert!(matches!(outbox.settled(1).await[0].2, DeliveryOutcome::Delivered { .. }));
    assert_eq!(header(&received(&server).await[0], "webhook-id"), header(&received(&slow).await[0], "webhook-id"));
    second.stop().await;
}

#[tokio::test]
async fn a_webhook_that_is_down_gets_its_events_once_it_is_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("is bound");
    drop(listener);
    let (outbox, time) = (Outbox::new(), Time::new());
    for event in ["evt_1", "evt_2", "evt_3"] {
        outbox.queue(event, "ops", BODY, time.now());
    }
    let running = start(vec![sink("ops", &format!("http://{address}/hook"))], &outbox, &time);
    let settled = outbox.settled(3).await;
    for (_, _, outcome) in &settled {
        let DeliveryOutcome::Retry { error, .. } = outcome else { panic!("{settled:?}") };
        assert!(error.to_lowercase().contains("connection refused") && !error.contains("/hook"), "{error}");
    }
    let listener = std::net::TcpListener::bind(address).expect("the port is still free");
    let server = MockServer::builder().listener(listener).start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    time.pass(Duration::from_secs(6));
    running.handle.notify();
    outbox.settled(6).await;
    assert!(outbox.rows().iter().all(|row| row.state == DeliveryState::Delivered));
    let ids: Vec<_> = received(&server).await.iter().map(|request| header(request, "webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn a_sink_that_never_answers_holds_up_no_other_and_runs_into_its_timeout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("is bound");
    let server = answering(vec![]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    for n in 0..200 {
        outbox.queue(&format!("evt_stuck_{n}"), "stuck", BODY, time.now());
    }
    outbox.queue("evt_1", "ops", BODY, time.now());
    let mut stuck = sink("stuck", &format!("http://{address}"));
    stuck.timeout = Duration::from_millis(300);
    let running = start(vec![stuck, sink("ops", &format!("{}/hook", server.uri()))], &outbox, &time);
    let settled = outbox.settled(2).await;
    assert!(
        settled
            .iter()
            .any(|(event, _, outcome)| { event == "evt_1" && matches!(outcome, DeliveryOutcome::Delivered { .. }) })
    );
    let DeliveryOutcome::Retry { error, .. } = &settled.iter().find(|s| s.1 == "stuck").expect("ran out of time").2
    else {
        panic!("{settled:?}")
    };
    assert_eq!(error, "no answer within 300ms: the sink's `timeout`");
    running.stop().await;
}

#[tokio::test]
async fn an_endless_answer_is_read_only_in_part() {
    let server = answering(vec![ResponseTemplate::new(400).set_body_bytes(vec![b'x'; 8 << 20])]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "ops", BODY, time.now());
    let running = start(vec![sink("ops", &format!("{}/hook", server.uri()))], &outbox, &time);
    let settled = outbox.settled(1).await;
    let DeliveryOutcome::Retry { error, .. } = &settled[0].2 else { panic!("{settled:?}") };
    assert_eq!(*error, format!("answered 400 Bad Request: {}", "x".repeat(200)));
    running.stop().await;
}

#[tokio::test]
async fn an_event_for_a_sink_that_is_not_configured_waits_for_it() {
    let (outbox, time) = (Outbox::new(), Time::new());
    outbox.queue("evt_1", "typo", BODY, time.now());
    let running = start(vec![sink("ops", "http://127.0.0.1:9/")], &outbox, &time);
    let settled = outbox.settled(1).await;
    assert!(
        matches!(&settled[0].2, DeliveryOutcome::Retry { error, .. } if error.contains("no sink `typo`")),
        "{settled:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn the_outbox_is_looked_into_without_being_called() {
    let server = answering(vec![]).await;
    let (outbox, time) = (Outbox::new(), Time::new());
    let options = AlertOptions {
        poll_interval: Duration::from_millis(5),
        ..AlertOptions::new(vec![sink("ops", &format!("{}/hook", server.uri()))])
    };
    let deliverer = Deliverer::new(options, outbox.clone(), time.clock()).expect("the sinks are good");
    assert_eq!(deliverer.sink_names(), ["ops"]);
    let task = tokio::spawn(async move { deliverer.run(pending()).await });
    outbox.queue("evt_1", "ops", BODY, time.now());
    assert!(matches!(outbox.settled(1).await[0].2, DeliveryOutcome::Delivered { .. }));
    task.abort();
}
