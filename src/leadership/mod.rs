//! The leader session: the one Postgres session that holds the advisory lock and carries every write.
//!
//! A server is the active while its session holds the lock. Because the session that holds it is also the one that
//! writes, a commit is the proof that the lock was held; nothing else has to be compared. Postgres itself ends a
//! session that is silent for longer than the lease (`idle_session_timeout`), and the lock goes with it: no
//! standby has to judge the active, and no two clocks are compared.
//!
//! | file | what it is for |
//! |---|---|
//! | [`key`] | which lock |
//! | [`session`] | opens the session, sets its timeouts, closes it hard |
//! | [`checks`] | refuses replicas, poolers and old versions; says how durable a commit is |
//! | [`doctor`] | the same questions and more, for a person who asks before a server is started |
//! | [`candidate`], `holder` | the standby's side: waits for the lock in slices, ends a holder that is frozen |
//! | `identity` | which Postgres and which tables a session leads to |
//! | [`takeover`] | the epoch, and whether this is still the database that the tables were written on |
//! | `history` | the table `takeovers`, for which no term is lost |
//! | [`step_down`] | how an operator asks the active to make room |
//! | [`term`] | pure: lease, trust window, end of the term |
//! | [`leader`], `leader_task` | the active's side, and the task that owns the session: commits, session reads and renewals until something goes wrong |
//! | `catch_up` | what batches leave for later |
//! | `session_read` | what the session does beside its commits, where no other connection can read |
//! | `loss`, [`cause`] | why the task gives up a term, and what is recorded of it |
//! | `recorded`, `statements` | whether the row of the term is as the takeover wrote it; what else the session asks |
//! | [`error`] | why a server cannot become or stay active |
//! | `locks` | other sessions' locks in the way of a commit: waits for them, and says whose they are |
//!
//! It does not know what a batch is: the node hands in what applies one ([`leader::Apply`]). It does not decide
//! when to race for the lock, nor what to do when a term has ended.
//!
//! The life of a server: [`checks::check`] once; then, again and again, [`candidate::Candidate::open`], `wait`,
//! `take_over`, [`leader::Granted::start`], until [`term::Term::lost`].

pub mod candidate;
mod catch_up;
pub mod cause;
pub mod checks;
pub mod doctor;
pub mod error;
mod history;
mod holder;
mod identity;
pub mod key;
pub mod leader;
mod leader_task;
mod locks;
mod loss;
mod recorded;
pub mod session;
mod session_read;
mod statements;
pub mod step_down;
pub mod takeover;
pub mod term;

pub use candidate::Candidate;
pub use cause::{Cause, End};
pub use error::{Error, TermLost};
pub use identity::read_once as read_identity;
pub use leader::{Apply, Committed, ConditionRow, Done, Granted, Leader, LimitRow, Record};
pub use session::Settings;
pub use session_read::{SessionRead, SessionReads};
pub use takeover::{Reason, ReportHolder, Takeover};
pub use term::Term;
