//! `stanby migrate`: brings the tables to this version, as a role that may, before servers start as one that may not.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output;
use super::status::read_failure;
use crate::config::TablesFlags;
use crate::store::Store;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// Change nothing; exit with 1 if the tables are not of this version
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    tables: TablesFlags,
}

pub async fn run(args: &MigrateArgs) -> Result<ExitCode, Failure> {
    let (url, schema) = args.tables.read()?;
    let store = Store::open(&url, &schema, "stanby/migrate", STATEMENT_TIMEOUT);
    let done = migrate(&store, args.check).await;
    store.close().await;
    let (text, code) = done?;
    output::line(&format!("schema {schema} {text}"))?;
    Ok(code)
}

async fn migrate(store: &Store, only_check: bool) -> Result<(String, ExitCode), Failure> {
    let before = store.version().await.map_err(read_failure)?;
    if before.is_usable() {
        return Ok((before.to_string(), ExitCode::SUCCESS));
    }
    if only_check {
        let text = format!("{before}; `stanby migrate` as its owner changes that");
        return Ok((text, ExitCode::FAILURE));
    }
    store.migrate().await.map_err(read_failure)?;
    let after = store.version().await.map_err(read_failure)?;
    Ok((format!("{after}; before: {before}"), ExitCode::SUCCESS))
}
