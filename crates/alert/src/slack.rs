//! Slack: one message for each event, to an incoming webhook.
//!
//! *Source.* Slack, incoming webhooks and Block Kit: a header at most 150 characters, a section 3,000, a field 2,000. `&`, `<` and
//! `>` are all that its markup asks to be escaped.

use async_trait::async_trait;
use plimsoll_model::{EventKind, RegressionEvent};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::config::SinkConfig;
use crate::post::Post;
use crate::sink::{Answer, Attempt, Sink, event_of};
use crate::words::{FINDINGS_MAX, advice, causes, cut, headline, openable, reason, title};

const HEADER_CHARS: usize = 150;
const SECTION_CHARS: usize = 2_900;
const FINDING_CHARS: usize = 600;
const FIELD_CHARS: usize = 500;

/// One channel of Slack.
pub(crate) struct Slack {
    post: Post,
}

impl Slack {
    /// Makes the sink of a configuration that was checked.
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, String> {
        Ok(Self { post: Post::new(config)? })
    }
}

#[async_trait]
impl Sink for Slack {
    async fn deliver(&self, attempt: Attempt<'_>) -> Answer {
        let event = match event_of(attempt) {
            Ok(event) => event,
            Err(answer) => return answer,
        };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        self.post.send(headers, message(&event).to_string(), attempt.at).await
    }
}

fn message(event: &RegressionEvent) -> Value {
    let deploy = &event.data.deploy;
    let sign = if event.kind == EventKind::Resolved { ":white_check_mark:" } else { ":rotating_light:" };
    let field = |name: &str, value: &str| json!({ "type": "mrkdwn", "text": format!("*{name}*\n{}", escaped(value, FIELD_CHARS)) });
    let mut fields = vec![field("Service", &deploy.service.to_string()), field("Version", &version(event))];
    fields.push(field("Advice", advice(event)));
    fields.extend(deploy.actor.as_deref().filter(|actor| !actor.is_empty()).map(|actor| field("By", actor)));
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title(event), HEADER_CHARS) } }),
        section(&format!("{sign} {}", escaped(reason(event), SECTION_CHARS))),
        json!({ "type": "section", "fields": fields }),
    ];
    let causes = causes(event);
    // The first one is the summary.
    if event.kind != EventKind::Resolved && causes.len() > 1 {
        let told = causes.iter().skip(1).take(FINDINGS_MAX - 1);
        let mut lines: Vec<_> = told.map(|f| format!("• {}", escaped(&f.summary, FINDING_CHARS))).collect();
        if causes.len() > FINDINGS_MAX {
            lines.push(format!("and {} more", causes.len() - FINDINGS_MAX));
        }
        blocks.push(section(&format!("*Also*\n{}", lines.join("\n"))));
    }
    let mut links = vec![link(&event.data.links.ui, "Verdict and evidence")];
    links.push(deploy.run_url.as_deref().and_then(|url| link(url, "Pipeline run")));
    let mut small: Vec<String> = links.into_iter().flatten().collect();
    small.push(format!("`{}`", deploy.id));
    let context = json!([{ "type": "mrkdwn", "text": small.join("  ·  ") }]);
    blocks.push(json!({ "type": "context", "elements": context }));
    json!({
        // What notifications show, and clients that know no blocks.
        "text": format!("{sign} {}", escaped(&headline(event), SECTION_CHARS)),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn version(event: &RegressionEvent) -> String {
    let deploy = &event.data.deploy;
    match deploy.previous_version.as_deref().filter(|previous| !previous.is_empty()) {
        Some(previous) => format!("{} (was {previous})", deploy.version),
        None => deploy.version.clone(),
    }
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

/// Writes a link, where the address can stand in one.
fn link(address: &str, text: &str) -> Option<String> {
    let address = openable(address)?.replace('&', "&amp;");
    let fits = address.len() <= 500 && !address.contains(|c: char| c.is_whitespace() || matches!(c, '|' | '<' | '>'));
    fits.then(|| format!("<{address}|{text}>"))
}

/// Escapes text, and cuts it where it would take more than `most` characters escaped.
fn escaped(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        let before = escaped.len();
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
        // Bytes are never fewer than characters.
        if escaped.len() > most {
            escaped.truncate(before);
            escaped.push('…');
            break;
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_is_escaped_and_never_cut_in_two() {
        assert_eq!(escaped("a<b> & c", 100), "a&lt;b&gt; &amp; c");
        assert_eq!(escaped("ab&cd", 4), "ab…");
        assert_eq!(escaped("über", 5), "über");
    }

    #[test]
    fn a_link_that_markup_would_misread_is_left_out() {
        assert_eq!(
            link("https://ci.example/?a=1&b=2", "Run").as_deref(),
            Some("<https://ci.example/?a=1&amp;b=2|Run>")
        );
        for address in ["https://ci.example/a|b", "https://ci.example/>x", "javascript:x", "run 7"] {
            assert_eq!(link(address, "Run"), None, "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_text_outgrows_its_place(text in "\\PC{0,300}", most in 10..200_usize) {
            let escaped = escaped(&text, most);
            prop_assert!(escaped.chars().count() <= most + 1);
            prop_assert!(!escaped.contains('<') && !escaped.contains('>'));
        }
    }
}
