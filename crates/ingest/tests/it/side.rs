//! Health and reflection before clients that send much, or never end.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use crate::fakes::{Mode, Rig, options};
use crate::hostile::{NeverEnding, patient};
use crate::requests::span_bytes;
use crate::wire::{Answer, grpc, grpc_request, h2, message, whole};

/// Sends `first` to the method at `path`, never ends the request, and returns what comes back.
async fn unfinished_call(rig: &Rig, path: &str, first: Vec<u8>) -> Answer {
    let mut sender = h2::<NeverEnding>(rig.grpc()).await;
    let request = grpc_request(path, &[], vec![]).map(|_| NeverEnding { first: Some(first) });
    let answer = async { whole(sender.send_request(request).await.expect("is answered")).await };
    tokio::time::timeout(Duration::from_secs(30), answer).await.expect("ends")
}

const HEALTH: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_take_short_messages_only() {
    let rig = Rig::start(patient()).await;
    for path in HEALTH.into_iter().chain(REFLECTION) {
        // Refused by what is announced: nothing more of it comes.
        let answer = unfinished_call(&rig, path, message(false, &[0; 20_000])[..100].to_vec()).await;
        assert_eq!(answer.body, "", "{path}");
        if HEALTH.contains(&path) {
            assert_eq!(answer.header("grpc-status"), (tonic::Code::OutOfRange as i32).to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_health_and_reflection_have_to_end_in_time_and_answers_do_not() {
    let mut options = options();
    options.body_timeout = Duration::from_millis(200);
    let rig = Rig::start(options).await;
    let mut watcher = h2::<Full<Bytes>>(rig.grpc()).await;
    let watch = watcher.send_request(grpc_request(HEALTH[1], &[], message(false, &[]))).await;
    let mut watch = watch.expect("is served").into_body();
    assert!(watch.frame().await.is_some(), "is told how things are");
    for path in HEALTH.into_iter().chain(REFLECTION) {
        for first in [vec![0], message(false, &[0; 9_000])[..8_000].to_vec(), message(false, &[])] {
            let answer = unfinished_call(&rig, path, first).await;
            if HEALTH.contains(&path) {
                assert_eq!(answer.header("grpc-status"), (tonic::Code::DeadlineExceeded as i32).to_string());
            }
        }
    }
    rig.journal.set(Mode::Poison);
    let _ = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    let frame = watch.frame().await.expect("goes on").expect("is told of the change");
    assert!(frame.is_data());
}
