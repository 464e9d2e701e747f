//! What an ack inbox ends with. It follows from the subscribe request and a secret of the group's, so that a request
//! which reaches two actives in turn, or one of them late, names the ack inbox that its client was given the first time;
//! and nobody who does not know the secret can guess it.

use ring::hmac;

use crate::core::request::AckToken;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct AckTokens(hmac::Key);

impl AckTokens {
    /// All servers of a group have the same secret; 256 bits are enough.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(super) fn of(&self, payload: &[u8], reply: Option<&[u8]>) -> AckToken {
        let mut signing = hmac::Context::with_key(&self.0);
        signing.update(&payload.len().to_be_bytes());
        signing.update(payload);
        signing.update(reply.unwrap_or_default());
        let tag = signing.sign();
        let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
        AckToken::from_be_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_from_the_whole_request_and_the_secret() {
        let tokens = AckTokens::new(b"secret");
        let token = tokens.of(b"request", Some(b"reply"));

        assert_eq!(
            AckTokens::new(b"secret").of(b"request", Some(b"reply")),
            token
        );
        for other in [
            tokens.of(b"requestr", Some(b"eply")),
            tokens.of(b"request", None),
            tokens.of(b"requesT", Some(b"reply")),
            AckTokens::new(b"Secret").of(b"request", Some(b"reply")),
        ] {
            assert_ne!(other, token);
        }
    }
}
