//! `POST /api/v1/sql`: one query, rows in the format that `Accept` asks for, sent as they are found.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use plimsoll_query::{Format, QueryRequest};
use serde::Deserialize;
use serde_json::Value;

use super::problem::{Json, Problem};
use super::ApiState;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlBody {
    query: String,
    #[serde(default)]
    params: Vec<Value>,
}

pub(super) async fn run(
    State(state): State<ApiState>,
    headers: HeaderMap,
    Json(body): Json<SqlBody>,
) -> Result<Response, Problem> {
    let format = negotiate(&headers)?;
    let request = QueryRequest { sql: body.query, params: body.params, timeout: None };
    let result = state.engine.query(request).await?;
    // Dropping the body, when the client goes away, drops the stream and so cancels the query.
    let body = Body::from_stream(format.encode(result));
    Ok(([(header::CONTENT_TYPE, format.media_type())], body).into_response())
}

/// Chooses the format by `Accept`; JSON where anything will do.
fn negotiate(headers: &HeaderMap) -> Result<Format, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let mut wanted: Vec<(f32, &str)> = accept
        .split(',')
        .filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let media = parts.next().filter(|media| !media.is_empty())?;
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            Some((quality, media))
        })
        .collect();
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, media) in &wanted {
        if matches!(*media, "*/*" | "application/*") {
            return Ok(Format::Json);
        }
        if let Some(format) = Format::ALL.into_iter().find(|format| format.media_type().split(';').next() == Some(media)) {
            return Ok(format);
        }
    }
    let known: Vec<_> = Format::ALL.iter().map(|format| format!("`{}`", format.media_type())).collect();
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, format!("`Accept: {accept}` is not served; served are {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_for(accept: &str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a header value"));
        negotiate(&headers).ok()
    }

    #[test]
    fn the_preferred_known_media_type_wins() {
        assert_eq!(format_for("text/csv;q=0.5, application/x-ndjson"), Some(Format::JsonLines));
        assert_eq!(format_for("text/html, */*;q=0.1"), Some(Format::Json));
        assert_eq!(format_for("application/vnd.apache.arrow.stream"), Some(Format::ArrowStream));
        assert_eq!(format_for("image/png"), None);
    }
}
