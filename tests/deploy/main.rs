//! What is under `deploy/` and in the documents, held against the program: every command line parses, every variable,
//! flag, path and metric exists.

mod alerts;
mod commands;
mod compose;
mod debian;
mod docs;
mod helm;
mod image;
mod kubernetes;
mod package;
#[path = "../support/page.rs"]
mod page;
mod program;
mod prometheus;
mod reference;
mod systemd;
mod tools;
mod versions;
#[path = "../support/wait.rs"]
mod wait;
mod yaml;
