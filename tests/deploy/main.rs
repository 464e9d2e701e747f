//! What is under `deploy/` and in the documents, held against the program: every command line parses, every variable,
//! flag, path and metric exists.

mod compose;
mod debian;
mod docs;
mod helm;
mod image;
mod kubernetes;
mod package;
mod program;
mod prometheus;
mod systemd;
mod tools;
mod versions;
mod yaml;
