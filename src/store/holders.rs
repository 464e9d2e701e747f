//! Who keeps every server from becoming active, by a lock on what a takeover needs.

use super::error::Fault;
use super::source::{Parameter, Source};
use crate::postgres::holders::{HOLDERS, LockHolder, READ_BY_TAKEOVERS, Row};

/// `None` where a takeover could begin.
pub(super) async fn of_takeovers(source: &mut Source<'_>) -> Result<Option<LockHolder>, Fault> {
    let read = READ_BY_TAKEOVERS.iter().map(|&table| table.to_owned());
    let parameters = [
        Parameter::Texts(Vec::new()),
        Parameter::Texts(read.collect()),
        Parameter::Flag(true),
    ];
    let Some(row) = source.all(HOLDERS, &parameters).await?.pop() else {
        return Ok(None);
    };
    let holder = Row {
        pid: row.get("pid")?,
        role: row.get("role")?,
        application: row.get("application")?,
        state: row.get("state")?,
        since: row.get("since")?,
        prepared: row.get("prepared")?,
        holds: row.get("holds")?,
        locks_all: row.get("locks_all")?,
    };
    Ok(Some(holder.into()))
}
