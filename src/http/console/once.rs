//! That a form is sent twice does nothing twice: a double click, a page that is loaded again, a step back and forth. Each look at
//! what a verb would do has a mark of its own, and what is done with a mark is done once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// The oldest one makes room.
const MARKS_MAX: usize = 1024;

const MARK_BYTES: usize = 16;

/// The request that came of a mark; `None`: none has been made.
type Done = Arc<Turn<Option<i64>>>;

#[derive(Debug, Default)]
pub(super) struct Once(Mutex<VecDeque<(String, Done)>>);

impl Once {
    /// `None` where the system gives no random numbers.
    pub(super) fn mark() -> Option<String> {
        let mut bytes = [0; MARK_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(HEXLOWER.encode(&bytes))
    }

    /// Waits for whoever sent the same mark before. What was no mark of ours is not looked at.
    pub(super) async fn turn(&self, mark: &str) -> Option<OwnedMutexGuard<Option<i64>>> {
        if mark.len() != 2 * MARK_BYTES {
            return None;
        }
        let done = self.done(mark);
        Some(done.lock_owned().await)
    }

    fn done(&self, mark: &str) -> Done {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, done)) = all.iter().find(|(known, _)| known == mark) {
            return Arc::clone(done);
        }
        if all.len() >= MARKS_MAX {
            all.pop_front();
        }
        let done = Done::default();
        all.push_back((mark.to_owned(), Arc::clone(&done)));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_sends_a_mark_again_is_told_what_came_of_it_and_old_marks_make_room() {
        let once = Once::default();
        let mark = Once::mark().unwrap();
        let mut first = once.turn(&mark).await.unwrap();
        assert_eq!(*first, None);
        *first = Some(7);
        drop(first);
        assert_eq!(*once.turn(&mark).await.unwrap(), Some(7));
        assert!(once.turn("").await.is_none(), "a script has none");
        for _ in 0..MARKS_MAX {
            once.turn(&Once::mark().unwrap()).await.unwrap();
        }
        assert_eq!(*once.turn(&mark).await.unwrap(), None);
    }
}
