//! Requests of operators: how they get into the table, how the active finds them there, and what became of them.

use bytestring::ByteString;
use serde_json::Value;
use sqlx::Row;
use std::time::Duration;
use tokio::time::timeout;

use super::error::{Error, Fault};
use super::fence::{Fence, WrongServer, proof_columns};
use super::load::size;
use super::pool::Store;
use super::proven::ProvenRead;
use super::rows::Reading;
use super::source::{Line, Parameter, Source};
use crate::core::admin::{RequestError, RequestId, RequestPage, RequestRow, Underway};
use crate::core::ids::{ChannelName, PositionId, Sequence};
use crate::core::limits::Overrides;
use crate::core::load::Loaded;
use crate::core::snapshot::Snapshot;

/// A row of nulls where there are none.
const PAGE: &str = concat!(
    "SELECT ",
    proof_columns!(),
    ", EXISTS (SELECT FROM admin_requests) AS is_used, r.id, r.verb, r.dry_run, r.state = 'running' AS is_taken,
        r.through, r.messages, r.bytes,
        ARRAY(SELECT a.key FROM jsonb_each_text(r.arguments) a ORDER BY a.key) AS names,
        ARRAY(SELECT coalesce(a.value, '') FROM jsonb_each_text(r.arguments) a ORDER BY a.key) AS texts
    FROM (VALUES (true)) one
    LEFT JOIN (SELECT * FROM admin_requests WHERE finished_at IS NULL ORDER BY id LIMIT $1) r ON true
    ORDER BY r.id"
);

/// What operators have set for positions and channels, as columns of another query: a takeover waits for each statement.
macro_rules! set_columns {
    () => {
        "ARRAY(SELECT position_id FROM paused_positions) AS paused,
            ARRAY(SELECT position_id FROM moved_positions ORDER BY position_id) AS moved,
            ARRAY(SELECT (extract(epoch FROM clock_timestamp() - moved_at) * 1000000)::int8
                FROM moved_positions ORDER BY position_id) AS moved_us,
            ARRAY(SELECT channel FROM set_limits ORDER BY channel) AS limited,
            ARRAY(SELECT max_subscriptions FROM set_limits ORDER BY channel) AS max_subscriptions,
            ARRAY(SELECT max_msgs FROM set_limits ORDER BY channel) AS max_msgs,
            ARRAY(SELECT max_bytes FROM set_limits ORDER BY channel) AS max_bytes,
            ARRAY(SELECT max_age_ns FROM set_limits ORDER BY channel) AS max_age_ns,
            ARRAY(SELECT max_inactivity_ns FROM set_limits ORDER BY channel) AS max_inactivity_ns"
    };
}
pub(super) use set_columns;

/// So many rows of it.
#[derive(Debug)]
pub(super) struct Page(pub(super) usize);

impl ProvenRead for Page {
    type Found = Loaded;

    const WHAT: &'static str = "reading what operators ask for";
    const BEGINS: bool = false;

    async fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> Result<Result<Loaded, WrongServer>, Fault> {
        page(source, self.0, fence).await
    }
}

async fn page(
    source: &mut Source<'_>,
    rows: usize,
    fence: Fence,
) -> Result<Result<Loaded, WrongServer>, Fault> {
    let lines = source.all(PAGE, &[Parameter::Number(size(rows))]).await?;
    let Some(first) = lines.first() else {
        return Err(sqlx::Error::RowNotFound.into());
    };
    if let Err(wrong_server) = fence.judge(first)? {
        return Ok(Err(wrong_server));
    }
    let rows = lines.iter().filter_map(|line| row(line).transpose());
    Ok(Ok(Loaded::Requests(RequestPage {
        is_used: first.get("is_used")?,
        rows: rows.collect::<Result<_, _>>()?,
    })))
}

fn row(line: &Line) -> Result<Option<RequestRow>, Fault> {
    let Some(id) = line.get::<Option<i64>>("id")? else {
        return Ok(None);
    };
    let row = Reading::new("admin_requests", line, id);
    let names: Vec<String> = row.get("names")?;
    let texts: Vec<String> = row.get("texts")?;
    let pairs = names.into_iter().zip(texts);
    let through: Option<i64> = row.get("through")?;
    let underway = Underway {
        through: through.map(|it| Sequence(it.cast_unsigned())),
        messages: row.number("messages")?,
        bytes: row.number("bytes")?,
    };
    let is_taken: bool = row.get("is_taken")?;
    Ok(Some(RequestRow {
        id: RequestId(id.cast_unsigned()),
        verb: ByteString::from(row.get::<&str>("verb")?),
        arguments: pairs
            .map(|(name, text)| (name.into(), text.into()))
            .collect(),
        dry_run: row.get("dry_run")?,
        taken: is_taken.then_some(underway),
    }))
}

/// From these columns.
pub(super) fn read_set(line: &Line, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let paused: Vec<i64> = line.get("paused")?;
    let paused = paused.into_iter().map(|id| PositionId(id.cast_unsigned()));
    snapshot.paused.extend(paused);
    let moved: Vec<i64> = line.get("moved")?;
    let ages: Vec<i64> = line.get("moved_us")?;
    // Clocks are set back, and what is to come is taken for now.
    let ages = ages.into_iter().map(|us| u64::try_from(us).unwrap_or(0));
    let moved = moved.into_iter().map(|id| PositionId(id.cast_unsigned()));
    snapshot
        .moved
        .extend(moved.zip(ages.map(Duration::from_micros)));
    let names: Vec<String> = line.get("limited")?;
    let column = |column| line.get::<Vec<Option<i64>>>(column);
    let subscriptions = column("max_subscriptions")?;
    let (messages, bytes) = (column("max_msgs")?, column("max_bytes")?);
    let (ages, inactivities) = (column("max_age_ns")?, column("max_inactivity_ns")?);
    for (index, name) in names.into_iter().enumerate() {
        let row = Reading::new("set_limits", line, &name);
        let limit = |column: &[Option<i64>]| {
            let limit = column.get(index).copied().flatten();
            let limit = limit.map(u64::try_from).transpose();
            let limit = limit.map_err(|_| row.corrupt("a limit is negative"))?;
            Ok::<_, Fault>(limit.map(|limit| (limit > 0).then_some(limit)))
        };
        let time = |column| {
            let limit: Option<Option<u64>> = limit(column)?;
            Ok::<_, Fault>(limit.map(|limit| limit.map(Duration::from_nanos)))
        };
        let size = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        let own = Overrides {
            subscriptions: limit(&subscriptions)?.map(|limit| limit.map(size)),
            messages: limit(&messages)?,
            bytes: limit(&bytes)?,
            age: time(&ages)?,
            inactivity: time(&inactivities)?,
        };
        let channel = ChannelName::parse(name.clone().into());
        let channel = channel.ok_or_else(|| row.corrupt("that is no name of a channel"))?;
        snapshot.limits.insert(channel, own);
    }
    Ok(())
}

/// For this transaction, as the audit has it.
macro_rules! named {
    () => {
        "set_config('application_name', coalesce($4, current_setting('application_name')), true) IS NOT NULL"
    };
}

/// What became of a request so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// No server has taken it.
    Waiting,
    Running,
    Done(Value),
    Refused(RequestError),
    Withdrawn,
    /// There is no such request.
    Unknown,
}

/// What the tables' own functions complain of.
const OURS: &str = "STB";

impl Store {
    /// Asks the active for something. The inner error is a mistake in the request.
    pub async fn request(
        &self,
        verb: &str,
        arguments: &Value,
        dry_run: bool,
        asked_by: Option<&str>,
    ) -> Result<Result<i64, RequestError>, Error> {
        // The standby that is to take over is known in the tables only.
        let ask = if verb == "step-down" {
            concat!(
                "SELECT request_step_down(($2::jsonb ->> 'force')::boolean, $3) WHERE $1 <> '' AND ",
                named!()
            )
        } else {
            concat!("SELECT admin_request($1, $2::jsonb, $3) WHERE ", named!())
        };
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let asked = async {
            let query = sqlx::query_scalar::<_, i64>(ask)
                .bind(verb)
                .bind(arguments.to_string())
                .bind(dry_run)
                .bind(asked_by);
            match query.fetch_one(pooled.connection()).await {
                Ok(id) => Ok(Ok(id)),
                Err(error) => request_error(error).map(Err),
            }
        };
        let done = timeout(limit, asked).await;
        pooled.checkin(done, "asking the active")
    }

    /// What became of it.
    pub async fn request_progress(&self, id: i64) -> Result<Progress, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let asked = async {
            let query = "SELECT state, result::text, error, hint FROM admin_requests WHERE id = $1";
            let row = sqlx::query(query)
                .bind(id)
                .fetch_optional(pooled.connection());
            match row.await? {
                Some(row) => Ok(progress(&row)?),
                None => Ok(Progress::Unknown),
            }
        };
        let done = timeout(limit, asked).await;
        pooled.checkin(done, "asking what became of a request")
    }

    /// Takes a request back; false when a server has taken it.
    pub async fn withdraw_request(&self, id: i64) -> Result<bool, Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let withdrawn = async {
            let query = sqlx::query_scalar("SELECT withdraw_request($1)").bind(id);
            Ok(query.fetch_one(pooled.connection()).await?)
        };
        let done = timeout(limit, withdrawn).await;
        pooled.checkin(done, "taking back a request")
    }
}

fn progress(row: &sqlx::postgres::PgRow) -> Result<Progress, sqlx::Error> {
    let text = |column| {
        row.try_get::<Option<String>, _>(column)
            .map(Option::unwrap_or_default)
    };
    let state: &str = row.try_get("state")?;
    Ok(match state {
        "done" => {
            let result = text("result")?;
            Progress::Done(serde_json::from_str(&result).unwrap_or(Value::String(result)))
        }
        "refused" => Progress::Refused(RequestError {
            error: text("error")?,
            hint: text("hint")?,
        }),
        "waiting" => Progress::Waiting,
        "running" => Progress::Running,
        _ => Progress::Withdrawn,
    })
}

fn request_error(error: sqlx::Error) -> Result<RequestError, Fault> {
    if let sqlx::Error::Database(database) = &error
        && database.code().is_some_and(|code| code.starts_with(OURS))
    {
        let hint = database
            .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .and_then(sqlx::postgres::PgDatabaseError::hint);
        return Ok(RequestError {
            error: database.message().to_owned(),
            hint: hint.unwrap_or_default().to_owned(),
        });
    }
    Err(error.into())
}
