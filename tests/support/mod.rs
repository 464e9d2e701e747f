//! What the tests that need real servers share. A test binary includes it with
//! `#[path = "../support/mod.rs"] mod support;`.
//!
//! Each test process starts one Postgres and one nats-server when its first test asks, and takes them along
//! when it ends, however it ends. Where a program is not installed the functions return `None` and say so,
//! and the test returns; under `scripts/test` (`STANBY_TEST_REQUIRE=1`) that fails the test instead.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test binary uses its part"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub(crate) mod clock;
pub(crate) mod copy;
pub(crate) mod memory_store;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod sessions;
pub(crate) mod tools;
pub(crate) mod wait;
pub(crate) mod way;
