//! How an operator asks the active to step down: a notification on its own session, by whoever may log in to the
//! database. It names the term that is to end, so that one which comes late ends no other. Pure: who sends it is
//! not known here.

use super::key::lock_key;
use crate::core::ids::Epoch;

/// What to notify so that the active of `epoch` in `schema` steps down: the channel and the payload.
pub fn request(schema: &str, epoch: Epoch) -> (String, String) {
    (channel(lock_key(schema)), epoch.0.to_string())
}

pub(super) fn listen(lock_key: i64) -> String {
    format!("LISTEN {}", channel(lock_key))
}

pub(super) fn names(payload: &str, epoch: Epoch) -> bool {
    payload.parse() == Ok(epoch.0)
}

/// One per group: its lock's.
fn channel(lock_key: i64) -> String {
    format!("stanby_step_down_{:016x}", lock_key.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_one_term_of_one_group() {
        let (channel, payload) = request("stanby", Epoch(7));
        assert_eq!(listen(lock_key("stanby")), format!("LISTEN {channel}"));
        assert_ne!(channel, request("other", Epoch(7)).0);
        assert!(names(&payload, Epoch(7)));
        assert!(!names(&payload, Epoch(8)));
        assert!(!names("", Epoch(0)));
    }
}
