//! The console: pages for people, under `/console`. They say what is wrong, why, and what to do. They have no powers of their
//! own: what they show is read as the commands read it ([`ViewReader`](crate::monitoring::view_reader::ViewReader)), what they change goes the way of
//! `/api/v1` ([`AdminRequests`](crate::administration::AdminRequests)) into the same audit. Off until it is told who may log in.
//!
//! | file | what for |
//! |---|---|
//! | `state` | what a node's consoles share |
//! | `router` | the paths |
//! | `principal` | who looks at a page: nobody sees one who is not logged in |
//! | `login`, `session`, `users`, `password` | logging in, and what that is good for |
//! | `layout`, `list`, `parts`, `words` | what pages have in common |
//! | `payload`, `json` | what stands in messages |
//! | `once` | that a form sent twice does nothing twice |
//! | `assets` | the style sheet and the scripts, vendored ones included |
//! | the others | a page each |

mod assets;
mod audit;
mod channel;
mod channels;
mod client;
mod clients;
mod dead_letters;
mod doctor;
mod durable;
mod durables;
mod form;
mod json;
mod layout;
mod list;
mod live;
mod login;
mod message;
mod messages;
mod now;
mod once;
mod parts;
pub mod password;
mod payload;
mod plot;
mod principal;
mod problems;
mod query;
mod rates;
mod request;
mod router;
mod session;
mod state;
mod statement;
mod takeovers;
mod undo;
pub mod users;
mod verbs;
mod words;

pub(super) use router::{router, streams};
pub use state::Console;
