//! Payloads that the tables hold encrypted. [`keyring::Keyring`] is what a process can read and write with,
//! [`operator_key`] is what operators give, [`term_key`] encrypts and decrypts rows, [`tables`] is the SQL, and
//! [`mod@report`] what is shown to people.
//!
//! `docs/decisions/encryption.md` says why there are two kinds of keys, and why no nonce is ever used twice. The core and
//! everything that leaves for clients know nothing of this: a message is encrypted when its batch becomes a statement,
//! and decrypted when its row is read.

mod keyring;
mod operator_key;
mod report;
mod tables;
mod term_key;

pub use keyring::Keyring;
pub(super) use operator_key::KeyRow;
pub(super) use report::report;
pub use report::{EncryptionReport, KeyInUse};
pub(super) use tables::{TermRow, keys, keys_and_terms, terms};
pub use term_key::Sealer;
pub(super) use term_key::{OVERHEAD, Opener, Sealed};
