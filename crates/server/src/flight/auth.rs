//! Who may ask: the API's token, as a bearer token or as the password of any user.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tonic::{Request, Status};

use crate::api::{bearer, same};

/// Checks what each call brings; open where no token is configured.
#[derive(Debug, Clone)]
pub(crate) struct Auth(pub(crate) Option<Arc<str>>);

impl Auth {
    /// Lets a call pass, or says what it lacks.
    #[allow(clippy::result_large_err)]
    pub(crate) fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.0 else { return Ok(request) };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if given_token(given).is_some_and(|given| same(given.as_bytes(), token.as_bytes())) {
            return Ok(request);
        }
        Err(Status::unauthenticated(
            "this server asks for a token: send `authorization: Bearer ..` with the value of `auth.token`, or any user with it as the password",
        ))
    }

    /// Returns what a client that has passed sends from now on.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0.as_deref().unwrap_or("anonymous"))
    }
}

fn given_token(header: &str) -> Option<String> {
    if let Some(token) = bearer(header) {
        return Some(token.to_owned());
    }
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // Some drivers leave the padding out.
    let pair = String::from_utf8(STANDARD_NO_PAD.decode(value.trim().trim_end_matches('=')).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_carry_the_token() {
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            assert_eq!(given_token(&format!("{scheme} abc")).as_deref(), Some("abc"), "{scheme}");
        }
        assert_eq!(given_token("basic dXNlcjphYmM=").as_deref(), Some("abc"));
        assert_eq!(given_token("Basic dXNlcjphYmM").as_deref(), Some("abc"));
        for wrong in ["", "Bearer", "Basic !!", "Digest abc"] {
            assert_eq!(given_token(wrong), None, "{wrong}");
        }
    }
}
