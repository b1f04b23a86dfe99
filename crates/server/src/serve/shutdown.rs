//! Requests to stop: the first one drains, a second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGINT (Ctrl-C) or SIGTERM.
pub async fn requested() {
    let (Some(mut interrupt), Some(mut terminate)) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted: draining; interrupt again to stop at once"),
        _ = terminate.recv() => tracing::info!("told to stop: draining"),
    }
}

/// Ends the process when asked a second time. Nothing acked is lost: it is in the journal.
pub fn exit_on_second_request() {
    tokio::spawn(async {
        requested().await;
        tracing::warn!("told to stop again: stopping without draining; the journal is replayed at the next start");
        std::process::exit(130);
    });
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::warn!(%error, "cannot listen for signals")).ok()
}
