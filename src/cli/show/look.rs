//! What the commands that look have in common: where the tables are, and what they say of a name that nobody knows.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::shown;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::status::read_failure;
use crate::config::TablesFlags;
use crate::core::nearest::nearest;
use crate::store::Store;
use crate::store::views::Channel;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Names that are offered in place of an unknown one.
const OFFERED_MAX: usize = 3;

#[derive(Args, Debug)]
pub(in crate::cli) struct LookFlags {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) tables: TablesFlags,
}

impl LookFlags {
    pub(super) fn store(&self) -> Result<Store, Failure> {
        open(&self.tables)
    }

    /// As JSON where that was asked for.
    pub(super) fn print<T: Serialize + ?Sized>(
        &self,
        found: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<ExitCode, Failure> {
        if self.json {
            output::json(found)?;
        } else {
            output::line(&text(found))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// `no_rows`: what stands in place of a table that has none.
    pub(super) fn print_rows<T: Serialize>(
        &self,
        rows: &[T],
        no_rows: &str,
        table: impl FnOnce(&[T]) -> String,
    ) -> Result<ExitCode, Failure> {
        self.print(rows, |rows| match rows {
            [] => no_rows.to_owned(),
            rows => table(rows),
        })
    }
}

pub(in crate::cli) fn open(tables: &TablesFlags) -> Result<Store, Failure> {
    let (url, schema) = tables.read()?;
    Ok(Store::open(&url, &schema, "stanby/look", STATEMENT_TIMEOUT))
}

/// What is wrong with a name, and those that are most like it.
pub(in crate::cli) fn unknown(what: &str, name: &str, names: &[String]) -> Failure {
    let mut rest: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut near = Vec::new();
    while near.len() < OFFERED_MAX
        && let Some(name) = nearest(name, rest.iter().copied())
    {
        near.push(format!("{:?}", shown(name)));
        rest.retain(|other| *other != name);
    }
    let hint = match (near.as_slice(), names) {
        ([], []) => format!("there is no {what} at all"),
        ([], _) if names.len() <= OFFERED_MAX => {
            let names: Vec<String> = names
                .iter()
                .map(|name| format!("{:?}", shown(name)))
                .collect();
            format!("there is {}", names.join(", "))
        }
        ([], _) => format!("none of the {} is like it", names.len()),
        (near, _) => format!("did you mean {}?", near.join(" or ")),
    };
    Failure::Usage(anyhow!("there is no {what} {:?}; {hint}", shown(name)))
}

/// The channel of this name.
pub(in crate::cli) async fn find_channel(store: &Store, name: &str) -> Result<Channel, Failure> {
    let found = store.channels(name).await.map_err(read_failure)?;
    let open = found
        .into_iter()
        .find(|channel| channel.status == "open" && channel.channel == name);
    if let Some(channel) = open {
        return Ok(channel);
    }
    let names = store.channel_names().await.map_err(read_failure)?;
    Err(unknown("channel", name, &names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_ones() {
        let names = ["orders", "orders2", "invoices", "border", "a"].map(str::to_owned);
        for (names, expected) in [
            (
                &names[..],
                "there is no channel \"oders\"; did you mean \"orders\"?",
            ),
            (
                &names[2..3],
                "there is no channel \"oders\"; there is \"invoices\"",
            ),
            (
                &[],
                "there is no channel \"oders\"; there is no channel at all",
            ),
        ] {
            let failure = unknown("channel", "oders", names);
            assert_eq!(failure.code(), std::process::ExitCode::from(2));
            let message = failure.message().unwrap();
            assert!(
                message.starts_with(expected.trim_end_matches('?')),
                "{message}"
            );
        }
    }
}
