//! What is not let out.

use plimsoll_alert::{AlertOptions, Deliverer, SinkConfig};
use plimsoll_catalog::DeliveryOutcome;
use wiremock::MockServer;

use super::catalog::{Outbox, Time};

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_before_anything_is_sent() {
    let server = MockServer::start().await;
    let (outbox, time) = (Outbox::new(), Time::new());
    let url = format!("http://localhost:{}/", server.address().port());
    let sink = SinkConfig::webhook("ops", url, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    outbox.queue("evt_1", "ops", "{}", time.now());
    let options = AlertOptions::new(vec![sink]);
    let deliverer = Deliverer::new(options, outbox.clone(), time.clock()).expect("a name tells nothing yet");
    let task = tokio::spawn(async move { deliverer.run(std::future::pending()).await });
    let settled = outbox.settled(1).await;
    let DeliveryOutcome::Retry { error, .. } = &settled[0].2 else { panic!("{settled:?}") };
    assert!(error.starts_with("`localhost` is ") && error.contains("`allow_private`"), "{error}");
    assert!(server.received_requests().await.expect("requests are kept").is_empty());
    task.abort();
}
