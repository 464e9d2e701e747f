//! A transaction as one pipeline: BEGIN, the statements and COMMIT are all sent before the first answer is awaited.

use std::pin::Pin;
use std::task::Poll;

use futures_util::poll;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::Failure;

pub(super) type Parameters<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Whose transaction the statements are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transaction {
    Own,
    /// The same, and committed only after every answer was looked at.
    Verified,
    /// It was begun before, and is not over when they are executed.
    Callers,
}

pub(super) struct Pipeline<'a> {
    client: &'a Client,
    queries: Vec<Query<'a>>,
}

struct Query<'a> {
    statement: &'a Statement,
    parameters: Parameters<'a>,
    what: &'static str,
    /// Rows that it must touch.
    expected: Option<usize>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

impl<'a> Pipeline<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            queries: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        statement: &'a Statement,
        parameters: Parameters<'a>,
        what: &'static str,
        expected: Option<usize>,
    ) {
        self.queries.push(Query {
            statement,
            parameters,
            what,
            expected,
        });
    }

    pub(super) async fn execute(self, transaction: Transaction) -> Result<(), Failure> {
        let client = self.client;
        if transaction == Transaction::Callers {
            for query in &self.queries {
                let rows = client.execute(query.statement, &query.parameters);
                query.check(rows.await)?;
            }
            return Ok(());
        }
        match self.queries.as_slice() {
            // The answer proves that the session is alive.
            [] => match command(client, "SELECT 1").await {
                Ok(_) => Ok(()),
                Err(error) => Err(failed("ping", error)),
            },
            several if transaction == Transaction::Verified => verified(client, several).await,
            // It commits by itself and saves two messages.
            [alone] => {
                let rows = client.execute(alone.statement, &alone.parameters).await;
                alone.check(rows)
            }
            several => pipelined(client, several).await,
        }
    }
}

impl Query<'_> {
    fn check(&self, rows: Result<u64, Error>) -> Result<(), Failure> {
        let found = rows.map_err(|error| failed(self.what, error))?;
        match self.expected {
            Some(expected) if expected as u64 != found => Err(Failure::Count {
                what: self.what,
                expected,
                found,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

async fn pipelined(client: &Client, queries: &[Query<'_>]) -> Result<(), Failure> {
    let answers = with_begin(client, queries).chain([ends(client, "COMMIT")]);
    let mut rows = together(answers.collect()).await;

    // Every answer counts: after a statement that failed COMMIT rolls back and still reports success.
    let committed = rows.pop();
    check(queries, rows)?;
    match committed {
        Some(Err(error)) => Err(failed("COMMIT", error)),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Nothing is committed, or left open, when an answer is not as expected.
async fn verified(client: &Client, queries: &[Query<'_>]) -> Result<(), Failure> {
    let rows = together(with_begin(client, queries).collect()).await;
    match check(queries, rows) {
        Ok(()) => match command(client, "COMMIT").await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("COMMIT", error)),
        },
        Err(failure) => match command(client, "ROLLBACK").await {
            Ok(_) => Err(failure),
            Err(error) => Err(failed("ROLLBACK", error)),
        },
    }
}

fn with_begin<'a>(
    client: &'a Client,
    queries: &'a [Query<'a>],
) -> impl Iterator<Item = Answer<'a>> {
    let statements = queries.iter().map(move |query| {
        let rows = client.execute(query.statement, &query.parameters);
        Box::pin(rows) as Answer<'a>
    });
    std::iter::once(ends(client, "BEGIN")).chain(statements)
}

fn ends<'a>(client: &'a Client, text: &'static str) -> Answer<'a> {
    Box::pin(command(client, text))
}

async fn together(mut answers: Vec<Answer<'_>>) -> Vec<Result<u64, Error>> {
    // The first poll sends, so this order is the order on the wire.
    let mut polled = Vec::with_capacity(answers.len());
    for answer in &mut answers {
        polled.push(poll!(answer));
    }
    let mut rows = Vec::with_capacity(answers.len());
    for (answer, polled) in answers.into_iter().zip(polled) {
        rows.push(match polled {
            Poll::Ready(rows) => rows,
            Poll::Pending => answer.await,
        });
    }
    rows
}

/// Looks at the answers to BEGIN and to each statement.
fn check(queries: &[Query<'_>], mut rows: Vec<Result<u64, Error>>) -> Result<(), Failure> {
    let begun = rows.remove(0);
    begun.map_err(|error| failed("BEGIN", error))?;
    for (query, rows) in queries.iter().zip(rows) {
        query.check(rows)?;
    }
    Ok(())
}

async fn command(client: &Client, text: &'static str) -> Result<u64, Error> {
    client.batch_execute(text).await.map(|()| 0)
}

fn failed(what: &'static str, error: Error) -> Failure {
    Failure::Statement { what, error }
}
