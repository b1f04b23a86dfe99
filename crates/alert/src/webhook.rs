//! The generic signed webhook: `POST` of the stored bytes, signed as Standard Webhooks says.

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::config::SinkConfig;
use crate::post::Post;
use crate::secret::SigningKey;
use crate::signature::sign;
use crate::sink::{Answer, Attempt, Sink};

/// One webhook.
pub struct Webhook {
    post: Post,
    keys: Vec<SigningKey>,
}

impl Webhook {
    /// Makes the sink of a configuration that was checked.
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, String> {
        let keys = config.secret.as_slice().iter().map(SigningKey::parse).collect::<Result<_, _>>()?;
        Ok(Self { post: Post::new(config)?, keys })
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&self, attempt: Attempt<'_>) -> Answer {
        let id = attempt.event_id.as_str();
        let timestamp = attempt.at.0 / 1_000_000_000;
        let signature = sign(&self.keys, id, timestamp, attempt.body.as_bytes());
        let (Ok(id), Ok(signature)) = (HeaderValue::from_str(id), HeaderValue::from_str(&signature)) else {
            return Answer::Unfit { problem: "the event's id cannot be sent as a header".to_owned() };
        };
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json")),
            (HeaderName::from_static("webhook-id"), id),
            (HeaderName::from_static("webhook-timestamp"), HeaderValue::from(timestamp)),
            (HeaderName::from_static("webhook-signature"), signature),
        ]);
        self.post.send(headers, attempt.body.to_owned(), attempt.at).await
    }
}
