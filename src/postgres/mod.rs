//! Sessions with Postgres, whichever driver speaks on them: what each of them is made to be before it is used.

pub mod bridge;
pub mod find;
pub mod holders;
pub mod pins;
pub mod pooler;
pub mod room;
