//! `POST /api/v1/sql`: one query, rows in the format that `Accept` asks for, sent as they are found.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use plimsoll_query::{Format, Parameter, QueryRequest};
use serde::Deserialize;
use serde_json::Value;

use super::ApiState;
use super::broken_off::BrokenOff;
use super::problem::{Json, Problem};

/// The header that names the segments which an answer does without.
const MISSING: HeaderName = HeaderName::from_static("plimsoll-missing-segments");
/// The header with the id by which to ask why an answer broke off.
const ID: HeaderName = HeaderName::from_static("plimsoll-query-id");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlBody {
    query: String,
    #[serde(default)]
    params: Vec<Value>,
    #[serde(default)]
    allow_missing_segments: bool,
}

#[tracing::instrument(name = "sql", skip_all, fields(query = body.query))]
pub(super) async fn run(
    State(state): State<ApiState>,
    headers: HeaderMap,
    Json(body): Json<SqlBody>,
) -> Result<Response, Problem> {
    let format = negotiate(&headers)?;
    let request = QueryRequest {
        params: Parameter::all_from_json(&body.params)?,
        sql: body.query,
        allow_missing_segments: body.allow_missing_segments,
        source: "http",
        ..QueryRequest::default()
    };
    let result = state.engine.query(request).await?;
    // Paths below the store's root: letters, digits, `-`, `_`, `.` and `/`.
    let missing = HeaderValue::from_str(&result.missing_segments.join(", ")).ok().filter(|paths| !paths.is_empty());
    // Dropping the body, when the client goes away, drops the stream and so cancels the query.
    let id = BrokenOff::id();
    let header = HeaderValue::from_str(&id).ok();
    let kept = state.broken_off;
    let bytes = format.encode(result).then(move |chunk| {
        if let Err(error) = &chunk {
            kept.remember(&id, &error.to_string());
            tracing::info!(%id, %error, "an answer broke off");
        }
        async move {
            if chunk.is_err() {
                // The connection is dropped at once: what stands before the error, the headers among it, is written out first.
                tokio::task::yield_now().await;
            }
            chunk
        }
    });
    let mut response = ([(header::CONTENT_TYPE, format.media_type())], Body::from_stream(bytes)).into_response();
    if let Some(id) = header {
        response.headers_mut().insert(ID, id);
    }
    if let Some(missing) = missing {
        response.headers_mut().insert(MISSING, missing);
    }
    Ok(response)
}

/// Chooses the format by `Accept`; JSON where there is none.
fn negotiate(headers: &HeaderMap) -> Result<Format, Problem> {
    let accept = headers.get(header::ACCEPT).map_or("*/*", |value| value.to_str().unwrap_or_default());
    Format::from_accept(accept).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|format| format!("`{}`", format.media_type())).collect();
        let detail = format!("`Accept: {accept}` is not served; served are {}", known.join(", "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, detail)
    })
}
