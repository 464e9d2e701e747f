//! `stanby durable …`: durables and queue groups are set to another place, paused and removed, and messages settled for
//! them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::moment::Moment;
use super::request::{self, Impact, RequestFlags, WhichDurable, WhichMessages};
use super::show;

#[derive(Debug, Subcommand)]
pub enum DurableCommand {
    /// List durables and queue groups: how far behind each is, and why
    List(show::durables::ListArgs),
    /// Show a durable or a queue group: how far behind it is, why, and what it has in flight
    Show(show::durables::ShowArgs),
    /// Move it to another position: connected members continue there at once
    Seek(SeekArgs),
    /// Pause a durable: nothing is delivered to it until it is resumed
    Pause(PlainArgs),
    /// Resume a paused durable
    Resume(PlainArgs),
    /// Ack a message that was delivered, on behalf of its client
    Ack(AckArgs),
    /// Ack messages, delivered or not: one, or all from the first to the last
    Skip(SkipArgs),
    /// Remove a durable and its position
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
pub struct SeekArgs {
    #[command(flatten)]
    which: WhichDurable,

    #[command(flatten)]
    to: SeekTarget,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct SeekTarget {
    /// first: the oldest message. last: the newest. new: only what is published from now on. Or a sequence
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,

    /// This message is delivered next
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,

    /// The first message of this time is: 2026-11-29T14:00:00Z (without a zone it is local), 14:00, or of so long ago: 90 min, 1h30m
    #[arg(long, value_name = "TIME")]
    time: Option<Moment>,
}

#[derive(Args, Debug)]
pub struct PlainArgs {
    #[command(flatten)]
    which: WhichDurable,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
pub struct AckArgs {
    #[command(flatten)]
    which: WhichDurable,

    /// Sequence of the message
    #[arg(long, value_name = "N")]
    sequence: u64,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
pub struct SkipArgs {
    #[command(flatten)]
    which: WhichDurable,

    #[command(flatten)]
    messages: WhichMessages,

    #[command(flatten)]
    flags: RequestFlags,
}

#[derive(Args, Debug)]
pub struct RemoveArgs {
    #[command(flatten)]
    which: WhichDurable,

    /// Remove it even if members are connected: their subscriptions end
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    flags: RequestFlags,
}

pub async fn run(command: &DurableCommand) -> Result<ExitCode, Failure> {
    match command {
        DurableCommand::List(args) => show::durables::list(args).await,
        DurableCommand::Show(args) => show::durables::show(args).await,
        DurableCommand::Seek(args) => {
            let SeekTarget { to, sequence, time } = &args.to;
            let more = json!({ "to": to, "sequence": sequence, "time": time });
            ask("seek", &args.which, more, Impact::Destroys, &args.flags).await
        }
        DurableCommand::Pause(args) => {
            ask(
                "pause",
                &args.which,
                json!({}),
                Impact::Reversible,
                &args.flags,
            )
            .await
        }
        DurableCommand::Resume(args) => {
            ask(
                "resume",
                &args.which,
                json!({}),
                Impact::Reversible,
                &args.flags,
            )
            .await
        }
        DurableCommand::Ack(args) => {
            let more = json!({ "sequence": args.sequence });
            ask("ack", &args.which, more, Impact::Destroys, &args.flags).await
        }
        DurableCommand::Skip(args) => {
            let WhichMessages {
                sequence,
                first,
                last,
            } = &args.messages;
            let more = json!({ "sequence": sequence, "first": first, "last": last });
            ask("skip", &args.which, more, Impact::Destroys, &args.flags).await
        }
        DurableCommand::Remove(args) => {
            let more = json!({ "force": args.force });
            ask("remove", &args.which, more, Impact::Destroys, &args.flags).await
        }
    }
}

async fn ask(
    does: &str,
    which: &WhichDurable,
    more: Value,
    impact: Impact,
    flags: &RequestFlags,
) -> Result<ExitCode, Failure> {
    let mut arguments = json!({
        "channel": which.channel, "durable": which.durable, "client_id": which.client_id,
        "queue_group": which.queue_group,
    });
    if let (Value::Object(arguments), Value::Object(more)) = (&mut arguments, more) {
        arguments.extend(more);
    }
    request::run(&format!("durable {does}"), arguments, impact, flags).await
}
