//! The secrets that webhooks are signed with, as people write them: `whsec_` and the base64 of 24 to 64 bytes.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

pub const SECRET_PREFIX: &str = "whsec_";

/// Secrets are passed around by hand, and the padding gets lost.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no secret. Says nothing about what it holds.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretError {
    #[error("a webhook secret starts with whsec_")]
    Prefix,
    #[error("a webhook secret is base64 after whsec_")]
    Base64,
    #[error("a webhook secret has 24 to 64 bytes, this one has {0}")]
    Length(usize),
}

/// The bytes of a secret.
///
/// # Errors
/// What is wrong with `text`.
pub fn secret_bytes(text: &str) -> Result<Vec<u8>, SecretError> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
    let bytes = LENIENT.decode(encoded).map_err(|_| SecretError::Base64)?;
    if (24..=64).contains(&bytes.len()) { Ok(bytes) } else { Err(SecretError::Length(bytes.len())) }
}
