//! The types generated from `proto/protocol.proto`. They hold what was sent, unchecked; past `decode` and
//! `client` nothing sees them. Their `Debug` shows connection IDs: never log one.

include!(concat!(env!("OUT_DIR"), "/pb.rs"));
