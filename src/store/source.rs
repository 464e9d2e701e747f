//! Where rows come from: a pooled connection, or the leader session when none of those can be had. What is read is the
//! same, and read by the same code.

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{
    AssertSqlSafe, Decode, Either, Executor, PgConnection, Postgres, Row as _, SqlSafeStr as _,
    Type,
};
use tokio_postgres::types::{FromSql, ToSql, Type as TypeOfParameter};
use tokio_postgres::{Client, Row};

use super::error::Fault;

/// A session on which a transaction has begun.
#[derive(Debug)]
pub(super) enum Source<'c> {
    Pool(&'c mut PgConnection),
    Session(&'c Client),
    /// A pooled connection on which statements are only prepared: there are no rows.
    Rehearsal(&'c mut PgConnection),
}

/// What a query is given.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    Number(i64),
    Size(i32),
    Flag(bool),
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

/// One row.
#[derive(Debug)]
pub(super) enum Line {
    Pool(PgRow),
    Session(Row),
}

/// What both drivers read.
pub(super) trait Column<'r>: Decode<'r, Postgres> + Type<Postgres> + FromSql<'r> {}

impl<'r, T: Decode<'r, Postgres> + Type<Postgres> + FromSql<'r>> Column<'r> for T {}

impl Line {
    pub(super) fn get<'r, T: Column<'r>>(&'r self, column: &str) -> Result<T, Fault> {
        match self {
            Self::Pool(row) => Ok(row.try_get(column)?),
            Self::Session(row) => Ok(row.try_get(column)?),
        }
    }
}

impl Parameter {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Number(number) => number,
            Self::Size(size) => size,
            Self::Numbers(numbers) => numbers,
            Self::Flag(flag) => flag,
            Self::Texts(texts) => texts,
        }
    }
}

impl Source<'_> {
    /// Hands over each row as it comes.
    pub(super) async fn each(
        &mut self,
        query: &'static str,
        parameters: &[Parameter],
        mut take: impl FnMut(Line) -> Result<(), Fault> + Send,
    ) -> Result<(), Fault> {
        match self {
            Self::Pool(connection) => {
                let mut asked = sqlx::query(query);
                for parameter in parameters {
                    asked = match parameter {
                        Parameter::Number(number) => asked.bind(*number),
                        Parameter::Size(size) => asked.bind(*size),
                        Parameter::Flag(flag) => asked.bind(*flag),
                        Parameter::Numbers(numbers) => asked.bind(numbers.clone()),
                        Parameter::Texts(texts) => asked.bind(texts.clone()),
                    };
                }
                let mut rows = asked.fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    take(Line::Pool(row))?;
                }
            }
            Self::Session(client) => {
                let rows = if parameters.is_empty() {
                    // In one message.
                    let none: [(&(dyn ToSql + Sync), TypeOfParameter); 0] = [];
                    client.query_typed_raw(query, none).await?
                } else {
                    let parameters = parameters.iter().map(Parameter::as_sql);
                    client.query_raw(query, parameters).await?
                };
                let mut rows = std::pin::pin!(rows);
                while let Some(row) = rows.try_next().await? {
                    take(Line::Session(row))?;
                }
            }
            Self::Rehearsal(connection) => {
                connection.prepare(query.into_sql_str()).await?;
            }
        }
        Ok(())
    }

    /// Hands over each row of these statements, which take no parameters, with the statement's index. On a pooled
    /// connection they go in one message: however far Postgres is, they cost one round trip together.
    pub(super) async fn each_of(
        &mut self,
        statements: &[&'static str],
        mut take: impl FnMut(usize, Line) -> Result<(), Fault> + Send,
    ) -> Result<(), Fault> {
        match self {
            Self::Pool(connection) => {
                let script = AssertSqlSafe(statements.join(";\n"));
                let mut answers = sqlx::raw_sql(script).fetch_many(&mut **connection);
                let mut index = 0;
                while let Some(answer) = answers.try_next().await? {
                    match answer {
                        Either::Left(_) => index += 1,
                        Either::Right(row) => take(index, Line::Pool(row))?,
                    }
                }
            }
            Self::Session(_) => {
                for (index, &statement) in statements.iter().enumerate() {
                    self.each(statement, &[], |line| take(index, line)).await?;
                }
            }
            // Planned again each time: what Postgres looks up for that is in its caches afterwards.
            Self::Rehearsal(connection) => {
                let script: Vec<_> = statements
                    .iter()
                    .map(|it| format!("EXPLAIN {it}"))
                    .collect();
                connection
                    .execute(AssertSqlSafe(script.join(";\n")))
                    .await?;
            }
        }
        Ok(())
    }

    pub(super) async fn all(
        &mut self,
        query: &'static str,
        parameters: &[Parameter],
    ) -> Result<Vec<Line>, Fault> {
        let mut lines = Vec::new();
        self.each(query, parameters, |line| {
            lines.push(line);
            Ok(())
        })
        .await?;
        Ok(lines)
    }

    /// The only row.
    pub(super) async fn one(
        &mut self,
        query: &'static str,
        parameters: &[Parameter],
    ) -> Result<Line, Fault> {
        let line = self.all(query, parameters).await?.pop();
        line.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// A statement without rows.
    pub(super) async fn execute(&mut self, statement: &str) -> Result<(), Fault> {
        match self {
            Self::Pool(connection) | Self::Rehearsal(connection) => {
                let statement = AssertSqlSafe(statement.to_owned());
                connection.execute(statement).await?;
            }
            Self::Session(client) => client.batch_execute(statement).await?,
        }
        Ok(())
    }
}
