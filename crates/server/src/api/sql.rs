//! `POST /api/v1/sql`: one query, rows in the format that `Accept` asks for, sent as they are found.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use plimsoll_query::{Format, QueryRequest};
use serde::Deserialize;
use serde_json::Value;

use super::ApiState;
use super::problem::{Json, Problem};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlBody {
    query: String,
    #[serde(default)]
    params: Vec<Value>,
}

#[tracing::instrument(name = "sql", skip_all, fields(query = body.query))]
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

/// Chooses the format by `Accept`; JSON where there is none.
fn negotiate(headers: &HeaderMap) -> Result<Format, Problem> {
    let accept = headers.get(header::ACCEPT).map_or("*/*", |value| value.to_str().unwrap_or_default());
    Format::from_accept(accept).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|format| format!("`{}`", format.media_type())).collect();
        let detail = format!("`Accept: {accept}` is not served; served are {}", known.join(", "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, detail)
    })
}
