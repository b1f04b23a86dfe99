//! Errors as `application/problem+json` (RFC 9457).

use axum::extract::FromRequest;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use plimsoll_catalog::CatalogError;
use plimsoll_query::QueryError;
use serde_json::json;

use crate::nearest::nearest;
use crate::object::Object;
use crate::wording::worded;

/// One problem, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    problems: Vec<String>,
}

impl Problem {
    /// Makes a problem with one sentence of detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), problems: Vec::new() }
    }

    /// What was sent makes no sense; every reason is listed.
    pub fn invalid(problems: Vec<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: problems.join("; "), problems }
    }

    /// There is no such thing.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} `{id}`"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.problems.is_empty() {
            body["problems"] = json!(self.problems);
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let status = match error {
            CatalogError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            CatalogError::Corrupt { .. } | CatalogError::TooNew { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let status = match error {
            QueryError::Refused(_) => StatusCode::FORBIDDEN,
            QueryError::Invalid(_) => StatusCode::BAD_REQUEST,
            QueryError::Exceeded(_) => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

/// A JSON body whose errors are problems. It is an object: what stands in a list has no names that could be checked.
pub(super) struct Json<T>(pub(super) T);

impl<S, T> FromRequest<S> for Json<T>
where
    axum::Json<Object<T>>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<Object<T>>::from_request(request, state).await {
            Ok(axum::Json(Object(value))) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), plain(&rejection.body_text()))),
        }
    }
}

/// A query string whose errors are problems.
pub(super) struct Query<T>(pub(super) T);

impl<S, T> axum::extract::FromRequestParts<S> for Query<T>
where
    T: serde::de::DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), plain(&rejection.body_text()))),
        }
    }
}

/// Says what is wrong with a body or a query string in the words of this API, with the name that was most likely meant.
fn plain(said: &str) -> String {
    const OPENINGS: [&str; 3] = [
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to deserialize query string: ",
        "Failed to parse the request body as JSON: ",
    ];
    let Some(opening) = OPENINGS.iter().find(|opening| said.starts_with(**opening)) else { return lowercase(said) };
    let rest = &said[opening.len()..];
    let Some((_, unknown)) = rest.split_once("unknown field `") else {
        return if *opening == OPENINGS[2] {
            format!("the body is not JSON: {}", lowercase(rest))
        } else {
            of_a_field(rest)
        };
    };
    // What is written is between the first two backticks, what is known between the others.
    let mut names = unknown.split('`').step_by(2);
    let written = names.next().unwrap_or_default();
    let known: Vec<&str> = names.filter(|name| !name.starts_with(" at line ") && !name.is_empty()).collect();
    match nearest(written, &known) {
        Some(known) => format!("unknown field `{written}`: did you mean `{known}`?"),
        None => {
            let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("unknown field `{written}`: use {}", known.join(", "))
        }
    }
}

/// Words a complaint that begins with the field it is about, where it is about one.
fn of_a_field(said: &str) -> String {
    let is_field = |text: &&str| !text.is_empty() && !text.contains([' ', '`', '"']);
    match said.split_once(": ").filter(|(field, _)| is_field(field)) {
        Some((field, said)) => match worded(said) {
            words if words.starts_with("must be") => format!("`{field}` {words}"),
            words => format!("`{field}`: {words}"),
        },
        None => match worded(said) {
            words if words.starts_with("must be") => format!("the body {words}"),
            words => words,
        },
    }
}

fn lowercase(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_lowercase().to_string()).unwrap_or_default();
    // An abbreviation stays one.
    if letters.as_str().starts_with(char::is_uppercase) { text.to_owned() } else { first + letters.as_str() }
}

/// A segment of the path whose errors are problems.
pub(super) struct Path<T>(pub(super) T);

impl<S, T> axum::extract::FromRequestParts<S> for Path<T>
where
    T: serde::de::DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_body_is_said_in_words_of_this_api() {
        let body = "Failed to deserialize the JSON body into the target type: ";
        for (said, wanted) in [
            (
                format!("{body}strted_at: unknown field `strted_at`, expected one of `service`, `started_at` at line 1 column 61"),
                "unknown field `strted_at`: did you mean `started_at`?",
            ),
            (
                format!("{body}x: unknown field `colour`, expected `service` or `version` at line 1 column 61"),
                "unknown field `colour`: use `service`, `version`",
            ),
            (
                "Failed to deserialize query string: srvice: unknown field `srvice`, expected one of `service`, `limit`".to_owned(),
                "unknown field `srvice`: did you mean `service`?",
            ),
            (format!("{body}missing field `query` at line 1 column 2"), "`query` is missing"),
            (
                format!("{body}status: unknown variant `over`, expected one of `running`, `succeeded`, `failed` at line 1 column 16"),
                "`status` must be `running`, `succeeded` or `failed`, found `over`",
            ),
            (
                format!("{body}actor: invalid type: integer `7`, expected a string at line 1 column 30"),
                "`actor` must be text, found the number `7`",
            ),
            (
                format!("{body}invalid type: sequence, expected an object at line 1 column 0"),
                "the body must be an object, found a list",
            ),
            (
                "Failed to parse the request body as JSON: EOF while parsing an object at line 1 column 1".to_owned(),
                "the body is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                "Expected request with `Content-Type: application/json`".to_owned(),
                "expected request with `Content-Type: application/json`",
            ),
        ] {
            assert_eq!(plain(&said), wanted);
        }
    }
}
