//! The password check: SCRAM-SHA-256 (RFC 5802, RFC 7677), with the API's token as the password. The token itself never crosses
//! the wire, which is plain text.
//!
//! *Cost.* The token is stretched once, when the server starts; a login costs four HMACs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::wire::{Body, Malformed};
use crate::api::same;

/// The mechanism's name.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// As many as Postgres takes.
const ITERATIONS: u32 = 4_096;

/// What is kept of a password. It is wiped from memory when it goes: whoever has it can stand in for the server.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Verifier {
    salt: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// Stretches `password`.
    pub(super) fn new(password: &str, salt: [u8; 16]) -> Self {
        let salted = Zeroizing::new(stretch(password.as_bytes(), &salt));
        let client_key = mac(salted.as_slice(), b"Client Key");
        Self {
            salt: STANDARD.encode(salt),
            stored_key: Sha256::digest(client_key).into(),
            server_key: mac(salted.as_slice(), b"Server Key"),
        }
    }
}

/// A login between its two steps.
pub(super) struct Exchange {
    client_first: String,
    server_first: String,
    header: String,
    nonce: String,
}

impl Exchange {
    /// Reads the client's first message and returns what is sent back.
    pub(super) fn begin(verifier: &Verifier, message: Body, nonce: [u8; 18]) -> Result<(Self, String), Malformed> {
        let mut message = message;
        let mechanism = message.text()?;
        if mechanism != MECHANISM {
            return Err(Malformed(format!("`{mechanism}` is not spoken here, `{MECHANISM}` is")));
        }
        let data = message.value()?.unwrap_or_default();
        let text = std::str::from_utf8(&data).map_err(|_| wrong())?;
        // `n` and `y`: without channel binding, which needs encryption.
        let (binding, rest) = text.split_once(',').ok_or_else(wrong)?;
        let (identity, bare) = rest.split_once(',').ok_or_else(wrong)?;
        if binding != "n" && binding != "y" {
            return Err(Malformed("channel binding needs an encrypted connection".to_owned()));
        }
        let client_nonce = attribute(bare, 'r').ok_or_else(wrong)?;
        let nonce = format!("{client_nonce}{}", STANDARD.encode(nonce));
        let server_first = format!("r={nonce},s={},i={ITERATIONS}", verifier.salt);
        let exchange = Self {
            client_first: bare.to_owned(),
            server_first: server_first.clone(),
            header: format!("{binding},{identity},"),
            nonce,
        };
        Ok((exchange, server_first))
    }

    /// Checks the client's proof and returns the server's own; `None` where the password is wrong.
    pub(super) fn finish(self, verifier: &Verifier, message: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        if attribute(without_proof, 'c')? != STANDARD.encode(&self.header)
            || attribute(without_proof, 'r')? != self.nonce
        {
            return None;
        }
        let all = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let signature = mac(&verifier.stored_key, all.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
        let key: [u8; 32] = Sha256::digest(&client_key).into();
        same(&key, &verifier.stored_key)
            .then(|| format!("v={}", STANDARD.encode(mac(&verifier.server_key, all.as_bytes()))))
    }
}

fn wrong() -> Malformed {
    Malformed("this is no SCRAM message".to_owned())
}

fn attribute(text: &str, name: char) -> Option<&str> {
    text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// PBKDF2 with one block of output.
fn stretch(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut block = mac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut out = block;
    for _ in 1..ITERATIONS {
        block = mac(password, &block);
        for (out, block) in out.iter_mut().zip(block) {
            *out ^= block;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_standard_comes_out_as_the_standard_says() {
        let salt: [u8; 16] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64").try_into().expect("16 bytes");
        let verifier = Verifier::new("pencil", salt);
        let exchange = Exchange {
            client_first: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
            server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                .to_owned(),
            header: "n,,".to_owned(),
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
        };
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let proof = exchange.finish(&verifier, last.as_bytes());
        assert_eq!(proof.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn another_password_and_another_nonce_are_refused() {
        let verifier = Verifier::new("right", [7; 16]);
        let mut first = BytesMut::new();
        first.put_slice(b"SCRAM-SHA-256\0");
        first.put_u32(12);
        first.put_slice(b"n,,n=,r=abcd");
        let begin = || Exchange::begin(&verifier, Body(first.clone().freeze()), [1; 18]).expect("well formed");
        let (exchange, server_first) = begin();
        let nonce = attribute(&server_first, 'r').expect("a nonce").to_owned();
        let zeros = STANDARD.encode([0; 32]);
        assert_eq!(exchange.finish(&verifier, format!("c=biws,r={nonce},p={zeros}").as_bytes()), None);
        assert_eq!(begin().0.finish(&verifier, format!("c=biws,r=abcd,p={zeros}").as_bytes()), None);
        assert_eq!(begin().0.finish(&verifier, b"\xff,p="), None);
    }
}
