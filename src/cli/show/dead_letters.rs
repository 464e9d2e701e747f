//! `stanby dlq list`.

use std::process::ExitCode;

use clap::Args;

use super::look::{LookFlags, find_channel};
use super::{Column, Grid, or_dash, shown, width};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::status::read_failure;
use crate::store::views::{DeadLetter, DeadLetterFilter};

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only those of this dead-letter channel
    #[arg(value_name = "CHANNEL", default_value = "", hide_default_value = true)]
    channel: String,

    /// Only those that were not redriven yet
    #[arg(long)]
    waiting: bool,

    /// Only those after this sequence
    #[arg(
        long,
        value_name = "SEQUENCE",
        default_value_t = 0,
        hide_default_value = true
    )]
    after: u64,

    /// Dead letters that are shown
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,

    #[command(flatten)]
    look: LookFlags,
}

pub(in crate::cli) async fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let read = async {
        if !args.channel.is_empty() {
            find_channel(&store, &args.channel).await?;
        }
        let which = DeadLetterFilter {
            channel: &args.channel,
            waiting: args.waiting,
            after: args.after,
            count: args.limit.saturating_add(1),
        };
        store.dead_letters(which).await.map_err(read_failure)
    };
    let letters = read.await;
    store.close().await;
    let mut letters = letters?;
    if letters.len() > args.limit as usize {
        letters.truncate(args.limit as usize);
        output::note(&format!(
            "there are more; --limit shows more than {}",
            args.limit
        ));
    }
    args.look.print_rows(&letters, "no dead letters", table)
}

fn table(letters: &[DeadLetter]) -> String {
    let columns = [
        Column::text("CHANNEL"),
        Column::number("SEQ"),
        Column::text("FROM"),
        Column::number("TRIES"),
        Column::word("SINCE"),
        Column::word("REDRIVEN"),
        Column::text("OF"),
        Column::text("REASON"),
    ];
    let rows = letters.iter().map(|letter| {
        let of = [&letter.durable, &letter.queue_group];
        let of: Vec<&str> = of.into_iter().flatten().map(String::as_str).collect();
        [
            shown(&letter.channel),
            letter.sequence.to_string(),
            format!(
                "{} #{}",
                shown(&letter.origin_channel),
                letter.origin_sequence
            ),
            letter.deliveries.to_string(),
            minute(&letter.dead_since).to_owned(),
            or_dash(letter.redriven_at.as_deref().map(minute)),
            shown(&of.join("/")),
            shown(&letter.reason),
        ]
    });
    Grid::new(columns, rows).text(width())
}

/// As much of a time as a table has room for twice.
fn minute(at: &str) -> &str {
    at.get(.."2026-11-29T14:00".len()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    #[test]
    fn a_list_of_dead_letters_has_80_columns_whatever_they_are_called() {
        let letter = DeadLetter {
            channel: "orders-that-nobody-can-read".to_owned(),
            sequence: 123_456_789,
            origin_channel: "orders.of.the.north".to_owned(),
            origin_sequence: 987_654_321,
            durable: Some("billing".to_owned()),
            queue_group: Some("workers-of-the-north".to_owned()),
            deliveries: 12,
            reason: "the customer is not known".to_owned(),
            dead_since: "2026-11-29T14:00:00.123456Z".to_owned(),
            redriven_at: Some("2026-11-29T15:00:00.123456Z".to_owned()),
            size_bytes: 7,
            publisher: "till".to_owned(),
            redriven_by: Some(7),
        };
        let text = table(&[letter]);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(
            text.contains("123456789") && text.contains("2026-11-29T15:00"),
            "{text}"
        );
    }
}
