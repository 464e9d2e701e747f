//! Real processes and real sockets.

mod http;
