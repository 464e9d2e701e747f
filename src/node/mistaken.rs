//! Ways to commit a batch that lose messages, for builds that the tests must find out (`known_bad`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;

use super::shared::Setback;
use crate::config::Config;
use crate::core::batch::Batch;
use crate::core::ids::Epoch;
use crate::known_bad::{Mistake, is};
use crate::store::{self, Writer};

/// Enough of them that an ack for a publish is surely among what a crash takes along.
const BATCHES_BEHIND: usize = 8;

/// How long a session may be left alone that Postgres ends when it is idle for a lease.
const IDLE: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Mistaken {
    /// Reported as committed, and not written yet.
    behind: VecDeque<Batch>,
    second: Option<(Client, Writer, tokio::task::JoinSet<()>)>,
}

impl Mistaken {
    pub(super) async fn prepare(config: &Config) -> Result<Self, Setback> {
        if !is(Mistake::SecondConnection) {
            return Ok(Self::default());
        }
        let failed = |error: &dyn std::fmt::Display| Setback::Settings(error.to_string());
        let url = &config.database_url;
        let (mut session, tls) = url.for_session().map_err(|error| failed(&error))?;
        session.options(format!("-c search_path={}", config.schema));
        let connected = session.connect(tls).await;
        let (client, connection) = connected.map_err(|error| failed(&error))?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            connection.await.ok();
        });
        let writer = Writer::prepare(&client, url).await?;
        Ok(Self {
            behind: VecDeque::new(),
            second: Some((client, writer, tasks)),
        })
    }

    /// `None` when the batch is to be committed as it should be.
    pub(super) async fn apply(
        &mut self,
        writer: &Writer,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
    ) -> Option<Result<(), store::Error>> {
        if is(Mistake::AckBeforeCommit) {
            self.behind.push_back(batch.clone());
            if self.behind.len() <= BATCHES_BEHIND {
                return Some(Ok(()));
            }
            let before = self.behind.pop_front()?;
            return Some(writer.apply(client, &before, epoch).await);
        }
        let (second, writer, _) = self.second.as_ref()?;
        tokio::select! {
            done = writer.apply(second, batch, epoch) => Some(done),
            never = keep_alive(client) => match never {},
        }
    }
}

/// Batches keep the session alive otherwise, and these go elsewhere: the mistake is to be the only one. When it ends,
/// nobody looks, and the batch goes on.
async fn keep_alive(client: &Client) -> Infallible {
    while client.batch_execute("").await.is_ok() {
        sleep(IDLE).await;
    }
    pending().await
}
