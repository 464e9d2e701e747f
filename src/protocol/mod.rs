//! What the NATS Streaming protocol says, byte by byte: subjects, messages, the texts of refusals.
//!
//! Pure: bytes in, events of the core out, and back. It sends and receives nothing (`nats` does), and decides
//! nothing that depends on state (`core` does); it refuses what is malformed whatever the state.
//!
//! | file | what |
//! |---|---|
//! | [`subjects`] | every subject of a cluster ID |
//! | [`decode`] | payloads to events; `publish` the most frequent of them |
//! | [`encode`] | replies and deliveries to payloads |
//! | [`rejection`] | the exact texts that clients compare |
//! | [`permissions`] | what servers and clients may do on a NATS server that asks |
//! | [`announcement`] | what an active announces to other servers |
//! | [`partition_peers`] | what groups of servers tell each other about their channels |
//! | [`recollection`] | what servers ask each other after a failover of Postgres |
//! | [`client`] | the other side, for the command line's own publisher and subscriber, and for tests |
//! | [`pb`] | the generated types |

pub mod announcement;
pub mod client;
pub mod decode;
pub mod encode;
pub mod partition_peers;
pub mod pb;
pub mod permissions;
mod publish;
pub mod recollection;
pub mod rejection;
pub mod subjects;

pub use encode::VERSION;
pub use subjects::Subjects;
