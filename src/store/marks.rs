//! How far the channels are: what a standby looks at every second, to know what a failover of Postgres has lost.

use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};

use super::error::Fault;
use super::rows::Reading;
use crate::core::ids::{ChannelId, ChannelName, Epoch};
use crate::core::memory::{Mark, Marks};

/// The last line is there however many channels there are, and all lines are of one moment.
const MARKS: &str = "SELECT channel_id, name, last_sequence, NULL::bigint AS epoch, NULL::bigint AS last_channel_id
    FROM channels WHERE NOT deleting
    UNION ALL
    SELECT NULL, NULL, NULL, l.epoch, coalesce((SELECT last_channel_id FROM server_info), 0) FROM leadership l";

pub(super) async fn read(connection: &mut PgConnection) -> Result<Marks, Fault> {
    let mut marks = Marks::default();
    let mut rows = sqlx::query(MARKS).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let Some(id) = row.try_get::<Option<i64>, _>("channel_id")? else {
            let row = Reading::new("leadership", &row, "1");
            marks.epoch = Epoch(row.number("epoch")?);
            marks.last_channel = row.number("last_channel_id")?;
            continue;
        };
        let row = Reading::new("channels", &row, id);
        let mark = Mark {
            name: row.text("name", ChannelName::parse)?,
            last: row.sequence("last_sequence")?,
        };
        marks.channels.insert(ChannelId(id.cast_unsigned()), mark);
    }
    Ok(marks)
}
