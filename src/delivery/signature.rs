//! Signatures by the Standard Webhooks rules (<https://www.standardwebhooks.com>), version `v1`: HMAC-SHA256.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

use crate::config::{SECRET_PREFIX, SecretError, secret_bytes};

/// What a message is signed with: 24 to 64 bytes, written `whsec_` and base64.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

/// What is sent and signed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The same each time that the message is sent: receivers leave out repetitions by it.
    pub id: &'a str,
    /// When it is sent this time, in seconds since 1970: receivers refuse old ones.
    pub timestamp_s: i64,
    /// The JSON text, sent byte by byte as it is signed.
    pub body: &'a str,
}

impl Secret {
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        Ok(Self(secret_bytes(text)?.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A fresh secret as people write it.
pub fn new_secret() -> SecretString {
    let bytes: [u8; 32] = rand::random();
    format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)).into()
}

/// `v1,` and the signature of `message`.
pub fn sign(secret: &Secret, message: Message<'_>) -> String {
    let Message { id, timestamp_s, body } = message;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.0.expose_secret()).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_published_example() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message =
            Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s: 1_614_265_330, body: r#"{"test": 2432232314}"# };
        assert_eq!(sign(&secret, message), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_base64_of_24_to_64_bytes() {
        let parse = |bytes: usize| Secret::parse(&format!("whsec_{}", STANDARD.encode(vec![7; bytes]))).map(drop);
        assert_eq!(parse(24), Ok(()));
        assert_eq!(parse(64), Ok(()));
        assert_eq!(parse(23), Err(SecretError::Length(23)));
        assert_eq!(parse(65), Err(SecretError::Length(65)));
        assert_eq!(Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").map(drop), Err(SecretError::Prefix));
        assert_eq!(Secret::parse("whsec_not base64").map(drop), Err(SecretError::Base64));
    }

    #[test]
    fn a_new_secret_is_a_secret_and_another_each_time() {
        let (one, other) = (new_secret(), new_secret());
        assert!(Secret::parse(one.expose_secret()).is_ok());
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn padding_may_be_left_out() {
        let text = new_secret();
        assert!(Secret::parse(text.expose_secret().trim_end_matches('=')).is_ok());
    }
}
