//! Whether a notification is the provider's: HMAC-SHA256 over its body, in base64, compared in constant time.
//!
//! `Content-HMAC` is over the body as it was sent. `X-Content-HMAC` is over the body with its percent-encoding undone, which
//! several bodies share: so where both are there, the first one decides, and where only the second is there, a form that
//! names a field twice is refused when it is read (that is how such a body would differ).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Why a notification is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    #[error("no API secret is configured, so that nothing can be believed")]
    NoSecret,
    #[error("neither Content-HMAC nor X-Content-HMAC is there")]
    Missing,
    #[error("the signature is not that of this body")]
    Wrong,
}

/// Checks a body as it came, before anything of it is read. `raw` is `Content-HMAC`, `decoded` is `X-Content-HMAC`.
///
/// # Errors
/// Why it is not believed.
pub fn verify(secret: &SecretString, body: &[u8], raw: Option<&str>, decoded: Option<&str>) -> Result<(), Unsigned> {
    if secret.expose_secret().is_empty() {
        return Err(Unsigned::NoSecret);
    }
    let is_signed = match (raw, decoded) {
        (Some(raw), _) => is_mac_of(secret, body, raw),
        // JSON is not percent-encoded: there both are over the same bytes.
        (None, Some(decoded)) => is_mac_of(secret, &undo(body), decoded) | is_mac_of(secret, body, decoded),
        (None, None) => return Err(Unsigned::Missing),
    };
    if is_signed { Ok(()) } else { Err(Unsigned::Wrong) }
}

fn is_mac_of(secret: &SecretString, body: &[u8], signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature.trim()) else { return false };
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// Percent-encoding undone, and `+` a blank, over the whole body.
fn undo(body: &[u8]) -> Cow<'_, [u8]> {
    if !body.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(body);
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut undone = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        let (decoded, taken) = match (byte, digit(body.get(at + 1)), digit(body.get(at + 2))) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).expect("two hexadecimal digits"), 3),
            (b'+', ..) => (b' ', 1),
            (byte, ..) => (*byte, 1),
        };
        undone.push(decoded);
        at += taken;
    }
    Cow::Owned(undone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"TransactionId=1&Amount=10.00&Name=%D0%90%D0%BD%D0%BD%D0%B0+K%26o";

    fn secret() -> SecretString {
        "api-secret".to_owned().into()
    }

    fn mac(body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"api-secret").unwrap();
        mac.update(body);
        STANDARD.encode(mac.finalize().into_bytes())
    }

    #[test]
    fn the_signature_is_the_one_that_others_compute() {
        // printf '%s' 'TransactionId=1' | openssl dgst -sha256 -hmac api-secret -binary | base64
        let known = "FObZHxW4G0ZC5OjjCEPuK6dJUcamM1Z4PnoNqiv28n0=";
        assert_eq!(verify(&secret(), b"TransactionId=1", Some(known), None), Ok(()));
    }

    #[test]
    fn either_header_signs_its_form_of_the_body() {
        let undone = "TransactionId=1&Amount=10.00&Name=Анна K&o";
        assert_eq!(verify(&secret(), FORM, Some(&mac(FORM)), None), Ok(()));
        assert_eq!(verify(&secret(), FORM, None, Some(&mac(undone.as_bytes()))), Ok(()));
        assert_eq!(verify(&secret(), FORM, Some(&mac(FORM)), Some(&mac(undone.as_bytes()))), Ok(()));
        let json = br#"{"TransactionId":1,"Name":"100% + 1"}"#;
        assert_eq!(verify(&secret(), json, None, Some(&mac(json))), Ok(()));
    }

    #[test]
    fn what_is_unsigned_or_changed_is_not_believed() {
        let undone = "TransactionId=1&Amount=10.00&Name=Анна K&o";
        let right = mac(FORM);
        assert_eq!(verify(&secret(), FORM, None, None), Err(Unsigned::Missing));
        assert_eq!(verify(&SecretString::default(), FORM, Some(&right), None), Err(Unsigned::NoSecret));
        let changed = [FORM, b"0"].concat();
        for (body, raw, decoded) in [
            (&changed[..], Some(right.as_str()), None),
            (FORM, Some(""), None),
            (FORM, Some("!"), None),
            (FORM, Some(&right[..20]), None),
            (FORM, Some(mac(undone.as_bytes()).as_str()), None),
            (FORM, Some("AAAA"), Some(mac(undone.as_bytes()).as_str())),
            (FORM, None, Some("AAAA")),
        ] {
            assert_eq!(verify(&secret(), body, raw, decoded), Err(Unsigned::Wrong), "{raw:?} {decoded:?}");
        }
    }

    #[test]
    fn odd_percent_signs_stay_as_they_are() {
        assert_eq!(&*undo(b"100%&a=%4&b=%zz&c=%41+"), b"100%&a=%4&b=%zz&c=A ");
    }
}
