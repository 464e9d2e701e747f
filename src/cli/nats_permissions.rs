//! `stanby nats-permissions`: an authorization block for nats-server under which the servers and their clients can do
//! their work and nothing else.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::failure::Failure;
use super::output;
use crate::core::ids::Subject;
use crate::protocol::permissions::{self, Permissions};
use crate::protocol::subjects::{Prefixes, Subjects};

#[derive(Args, Debug)]
pub struct NatsPermissionsArgs {
    /// Cluster ID that clients connect to
    #[arg(
        long,
        env = "STANBY_CLUSTER_ID",
        value_name = "ID",
        default_value = "test-cluster"
    )]
    cluster_id: String,

    /// As given to serve
    #[arg(long, env = "STANBY_ACK_PREFIX", value_name = "SUBJECT")]
    ack_prefix: Option<String>,

    /// As given to serve
    #[arg(long, env = "STANBY_DISCOVER_PREFIX", value_name = "SUBJECT")]
    discover_prefix: Option<String>,

    /// Channels that clients may publish to, comma separated; wildcards as in NATS
    #[arg(
        long,
        value_name = "CHANNELS",
        value_delimiter = ',',
        default_value = ">"
    )]
    channels: Vec<String>,

    /// Subjects below which clients make their inboxes, comma separated
    #[arg(
        long,
        value_name = "SUBJECTS",
        value_delimiter = ',',
        default_value = "_INBOX"
    )]
    inboxes: Vec<String>,
}

pub fn run(args: &NatsPermissionsArgs) -> Result<ExitCode, Failure> {
    let prefixes = Prefixes {
        discover: args.discover_prefix.clone(),
        ack: args.ack_prefix.clone(),
        group: None,
    };
    let subjects = Subjects::new(&args.cluster_id, &prefixes)
        .map_err(|error| Failure::Usage(anyhow!(error)))?;
    let inboxes: Vec<String> = args
        .inboxes
        .iter()
        .map(|prefix| format!("{prefix}.>"))
        .collect();
    for pattern in args.channels.iter().chain(&inboxes) {
        ensure_pattern(pattern)?;
    }
    let servers = permissions::of_servers(&subjects, &inboxes);
    let clients = permissions::of_clients(&subjects, &inboxes, &args.channels);
    output::line(&block(&args.cluster_id, &servers, &clients))?;
    Ok(ExitCode::SUCCESS)
}

/// A subject whose tokens may be wildcards. Quotes and the like would end the text that it is printed in.
fn ensure_pattern(pattern: &str) -> Result<(), Failure> {
    let count = pattern.split('.').count();
    let plain = pattern
        .split('.')
        .enumerate()
        .map(|(index, token)| match token {
            "*" => "x",
            ">" if index + 1 == count => "x",
            token => token,
        })
        .collect::<Vec<_>>()
        .join(".");
    let is_plain = !plain.contains(['"', '\\', '$', '*', '>', ',']);
    if is_plain && Subject::parse(plain.into()).is_some() {
        return Ok(());
    }
    Err(Failure::Usage(anyhow!(
        "{pattern:?} is not a subject with wildcards; write it like orders.*, orders.> or >"
    )))
}

fn block(cluster_id: &str, servers: &Permissions, clients: &Permissions) -> String {
    let mut text = format!(
        "# For nats-server: the servers of cluster ID {cluster_id:?} and their clients.\n\
         # The passwords are read from nats-server's environment.\n\
         authorization {{\n  users: [\n"
    );
    for (user, password, permissions) in [
        ("stanby", "$STANBY_SERVER_PASSWORD", servers),
        ("client", "$STANBY_CLIENT_PASSWORD", clients),
    ] {
        text += &entry(user, password, permissions);
    }
    text + "  ]\n}"
}

fn entry(user: &str, password: &str, permissions: &Permissions) -> String {
    let mut text =
        format!("    {{\n      user: {user}\n      password: {password}\n      permissions: {{\n");
    let mut rule = |line: String| {
        writeln!(text, "        {line}").expect("a String takes everything");
    };
    rule(format!(
        "publish: {{ allow: {} }}",
        list(&permissions.publish)
    ));
    let deny = if permissions.no_subscribe.is_empty() {
        String::new()
    } else {
        format!(", deny: {}", list(&permissions.no_subscribe))
    };
    let allow = list(&permissions.subscribe);
    rule(format!("subscribe: {{ allow: {allow}{deny} }}"));
    if permissions.may_answer {
        // Heartbeats ask, and their answers go to an inbox that changes with every term.
        rule("allow_responses: true".to_owned());
    }
    text + "      }\n    }\n"
}

fn list(subjects: &[String]) -> String {
    let quoted: Vec<String> = subjects
        .iter()
        .map(|subject| format!("\"{subject}\""))
        .collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_subjects_get_into_the_block() {
        for good in [">", "orders", "orders.*", "orders.*.a", "_INBOX.>"] {
            assert!(ensure_pattern(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", "a.>.b", "a b", "a\"], x: [\"", "a>", "$X", "a*"] {
            assert!(ensure_pattern(bad).is_err(), "{bad}");
        }
    }
}
