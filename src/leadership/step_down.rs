//! How an operator asks the active to step down: a notification on its own session. Whoever may log in to the database may
//! notify, so a request proves that its sender may read the secret of the tables, as the roles that serve and migrate may
//! and readers may not. It names the term that is to end, so that one which comes late, or is repeated, ends no other.
//! Pure: who sends it is not known here.

use std::fmt::Write as _;

use ring::hmac;

use super::key::lock_key;
use crate::core::ids::Epoch;

/// What to notify so that the active of `epoch` in `schema` steps down: the channel and the payloads. The last one is for
/// servers of before requests had to prove anything.
pub fn request(schema: &str, epoch: Epoch, secret: &[u8]) -> (String, [String; 2]) {
    let tag = hmac::sign(&key(secret), text(lock_key(schema), epoch).as_bytes());
    let mut proof = format!("{} ", epoch.0);
    for byte in tag.as_ref() {
        write!(proof, "{byte:02x}").ok();
    }
    (channel(lock_key(schema)), [proof, epoch.0.to_string()])
}

pub(super) fn listen(lock_key: i64) -> String {
    format!("LISTEN {}", channel(lock_key))
}

/// What the active compares requests with.
pub(super) const SECRET: &str = "SELECT ack_secret FROM leadership";

/// The payload asks the active of this term, and its sender knows the secret.
pub(super) fn is_request(payload: &str, lock_key: i64, epoch: Epoch, secret: &[u8]) -> bool {
    let proof = payload
        .split_once(' ')
        .filter(|(asked, _)| asked.parse() == Ok(epoch.0))
        .and_then(|(_, proof)| data_encoding::HEXLOWER.decode(proof.as_bytes()).ok());
    proof.is_some_and(|proof| {
        hmac::verify(&key(secret), text(lock_key, epoch).as_bytes(), &proof).is_ok()
    })
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn text(lock_key: i64, epoch: Epoch) -> String {
    format!("stanby step-down\0{lock_key}\0{}", epoch.0)
}

/// One per group: its lock's.
fn channel(lock_key: i64) -> String {
    format!("stanby_step_down_{:016x}", lock_key.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_one_term_of_one_group_and_proves_who_sends_it() {
        let key = lock_key("stanby");
        let (channel, [proof, plain]) = request("stanby", Epoch(7), b"secret");
        assert_eq!(listen(key), format!("LISTEN {channel}"));
        assert_ne!(channel, request("other", Epoch(7), b"secret").0);
        assert!(is_request(&proof, key, Epoch(7), b"secret"));
        assert!(!is_request(&proof, key, Epoch(8), b"secret"));
        assert!(!is_request(&proof, key, Epoch(7), b"another"));
        assert!(!is_request(&proof, lock_key("other"), Epoch(7), b"secret"));
        for forged in [plain.as_str(), "", "7", "7 ", "7 00", "8 x"] {
            assert!(!is_request(forged, key, Epoch(7), b"secret"), "{forged:?}");
        }
    }
}
