//! The role loop and the active loop: the only place where the adapters meet.

pub mod clock;
pub mod run;
pub mod status;

pub use run::run;
