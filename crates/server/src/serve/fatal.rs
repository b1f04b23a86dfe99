//! The one failure after which nothing can be acked any more.

use tokio::sync::watch;

/// Set at most once, waited for by whoever ends the process.
#[derive(Debug)]
pub(super) struct Fatal(watch::Sender<Option<String>>);

impl Default for Fatal {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Fatal {
    pub(super) fn set(&self, reason: &str) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                tracing::error!("fatal: {reason}");
                *current = Some(reason.to_owned());
            }
            first
        });
    }

    pub(super) async fn wait(&self) -> String {
        let mut reason = self.0.subscribe();
        match reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}
