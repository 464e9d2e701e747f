//! The protocol, byte by byte: what is on the wire and what the server makes of it. No connection, no server.

mod decoding;
mod encoding;
mod hostile;
mod subjects;
mod support;
mod vectors;
