//! Values that are never printed, and the keys that events are signed with.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text: to use, not to print.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One secret, or several while they are being exchanged: events are then signed with each of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(untagged)]
pub enum Secrets {
    /// None is set.
    #[default]
    None,
    /// One.
    One(Secret),
    /// Several.
    Many(Vec<Secret>),
}

impl Secrets {
    /// Returns them all.
    pub fn as_slice(&self) -> &[Secret] {
        match self {
            Self::None => &[],
            Self::One(secret) => std::slice::from_ref(secret),
            Self::Many(secrets) => secrets,
        }
    }
}

/// The bytes of a signing key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// What a signing secret starts with.
    pub const PREFIX: &'static str = "whsec_";

    /// Reads `whsec_` and base64. The error says what is wrong and nothing of the secret.
    pub fn parse(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose().strip_prefix(Self::PREFIX).ok_or("does not start with `whsec_`")?;
        let bytes = STANDARD.decode(text).map_err(|_| "is not standard base64 after `whsec_`")?;
        if bytes.is_empty() { Err("is empty after `whsec_`") } else { Ok(Self(bytes)) }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
