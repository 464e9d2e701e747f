//! The secret that the servers of a group make ack inboxes with.

use sqlx::PgConnection;

use super::error::Fault;

pub(super) async fn read(connection: &mut PgConnection) -> Result<Vec<u8>, Fault> {
    let secret = sqlx::query_scalar("SELECT ack_secret FROM leadership");
    Ok(secret.fetch_one(connection).await?)
}
