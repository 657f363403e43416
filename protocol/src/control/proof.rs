//! [`Secret`]: what an invalidator and its nodes share, and how one shows the other that it knows it without saying it.

use std::fmt;

use ring::hmac;

use super::wire::{Nonce, Proof};

/// Shorter ones are guessed.
const SECRET_BYTES_MIN: usize = 16;

/// A shared secret.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// The secret is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {SECRET_BYTES_MIN} bytes")]
pub struct TooShort;

impl Secret {
    /// Any bytes, at least [`SECRET_BYTES_MIN`].
    pub fn new(bytes: &[u8]) -> Result<Secret, TooShort> {
        let long = bytes.len() >= SECRET_BYTES_MIN;
        long.then(|| Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes))).ok_or(TooShort)
    }

    /// That we know it, for the connection whose nonce this is.
    pub fn prove(&self, nonce: &Nonce) -> Proof {
        let mut proof = Proof::default();
        let tag = hmac::sign(&self.0, nonce);
        for (byte, from) in proof.iter_mut().zip(tag.as_ref()) {
            *byte = *from;
        }
        proof
    }

    /// Whether the other side knows it. Takes the same time whatever is wrong.
    pub fn is_proven(&self, nonce: &Nonce, proof: &Proof) -> bool {
        hmac::verify(&self.0, nonce, proof).is_ok()
    }
}

/// Without the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_proves_and_for_one_nonce_alone() {
        let secret = Secret::new(b"0123456789abcdef").expect("long enough");
        let other = Secret::new(b"0123456789abcdeg").expect("long enough");
        let proof = secret.prove(&[1; 16]);
        assert!(secret.is_proven(&[1; 16], &proof));
        assert!(!secret.is_proven(&[2; 16], &proof));
        assert!(!other.is_proven(&[1; 16], &proof));
        assert_eq!(Secret::new(b"short").err(), Some(TooShort));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
