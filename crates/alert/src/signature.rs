//! The `webhook-signature` header.
//!
//! *Source.* Standard Webhooks 1.0.0, symmetric signatures: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::SigningKey;

/// Signs one attempt with every key, separated by spaces. `timestamp` is in seconds since 1970.
pub fn sign(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut header = String::new();
    for key in keys {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut header);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn key(text: &str) -> SigningKey {
        SigningKey::parse(&Secret::new(text)).expect("is one")
    }

    #[test]
    fn the_signature_of_a_known_message_is_known() {
        // Reference: Python 3 `hmac.new(base64.b64decode(..), b"evt_1.1700000000.{}", "sha256")`.
        let signature = sign(&[key("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")], "evt_1", 1_700_000_000, b"{}");
        assert_eq!(signature, "v1,NNE7l8yBGUIZix+ZWhuw1i0d7yHV58dTPlowMVgdMTA=");
    }

    #[test]
    fn every_key_signs() {
        let (old, new) = (key("whsec_b2xkIGtleQ=="), key("whsec_bmV3IGtleQ=="));
        let both = sign(&[old.clone(), new.clone()], "evt_1", 7, b"body");
        assert_eq!(both, format!("{} {}", sign(&[old], "evt_1", 7, b"body"), sign(&[new], "evt_1", 7, b"body")));
    }
}
