//! What servers were set up with, and where their pages are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::iso;
use crate::store::{Error, Store};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServerSettings {
    pub server_id: String,
    pub host: String,
    pub version: String,
    /// Where its pages are.
    pub pages: Option<String>,
    /// By the names of flags.
    pub settings: BTreeMap<String, String>,
    pub told_at: Option<String>,
    pub is_active: bool,
    pub is_standby: bool,
}

const SERVERS: &str = concat!(
    "SELECT server_id, host, version, pages, settings, ",
    iso!("told_at"),
    " AS told_at, is_active, is_standby FROM server_settings ORDER BY is_active DESC, is_standby DESC, told_at DESC LIMIT 16"
);

/// Only the last ones of former servers stay.
const REPORT: &str = "WITH told AS (
        INSERT INTO told_settings (server_id, host, version, pages, settings) VALUES ($1, $2, $3, $4, $5::text::jsonb)
        ON CONFLICT (server_id) DO UPDATE SET host = excluded.host, version = excluded.version, pages = excluded.pages,
            settings = excluded.settings, told_at = excluded.told_at
        RETURNING server_id
    )
    DELETE FROM told_settings WHERE server_id IN (
        SELECT server_id FROM told_settings WHERE server_id <> $1 ORDER BY told_at DESC OFFSET 15
    ) AND server_id <> (SELECT server_id FROM told)";

impl Store {
    /// The active first, then standbys, then those that were.
    pub async fn server_settings(&self) -> Result<Vec<ServerSettings>, Error> {
        self.query_view(SERVERS, &[]).await
    }

    /// Notes what this server was set up with. No server acts on it: it need not go through the leader session.
    pub async fn report_settings(&self, reported: &ServerSettings) -> Result<(), Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout + Duration::from_secs(1);
        let settings = serde_json::to_string(&reported.settings);
        let settings = settings.map_err(|error| Error::Failed(error.to_string()))?;
        let done = timeout(limit, async {
            let report = sqlx::query(REPORT)
                .bind(&reported.server_id)
                .bind(&reported.host)
                .bind(&reported.version)
                .bind(&reported.pages)
                .bind(settings);
            report.execute(pooled.connection()).await?;
            Ok(())
        });
        let done = done.await;
        pooled.checkin(done, "noting the settings")
    }
}
