//! How far the channels are: what a standby looks at every second, to know what a failover of Postgres has lost.

use super::error::Fault;
use super::fence::{self, Fence, WrongServer};
use super::proven::ProvenRead;
use super::rows::Reading;
use super::source::Source;
use crate::core::commit_history::{HighWaterMark, HighWaterMarks};
use crate::core::ids::{ChannelId, ChannelName, Epoch};
use crate::core::time::Timestamp;

/// The last line is there however many channels there are, and all lines are of one moment.
const MARKS: &str = "SELECT c.channel_id, c.name, c.created_at_ns, greatest(c.last_sequence, u.last) AS last_sequence, NULL::bigint AS epoch,
        NULL::bigint AS last_channel_id, NULL::boolean AS sql_is_used
    FROM channels c
    LEFT JOIN (
        SELECT channel_id, max(last) AS last
        FROM (SELECT unnest(channel_id) AS channel_id, unnest(last_sequence) AS last FROM channel_updates) updates
        GROUP BY channel_id
    ) u USING (channel_id)
    WHERE NOT c.deleting
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, l.epoch, coalesce((SELECT last_channel_id FROM server_info), 0),
        EXISTS (SELECT FROM outbox_used)
    FROM leadership l";

/// Only where the last term has committed something, and on the Postgres that it runs on: after a failover the new
/// primary reports its own replicas. Every replica that connects to it is counted, whatever the asking role may see.
/// A reader of a logical slot, of whichever database, is none; but a commit may wait for it in the place of one.
const REPLICAS: &str = "SELECT current_setting('synchronous_standby_names') AS names,
        (SELECT count(*) FROM pg_stat_replication) AS connected,
        (SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid WHERE slot_type = 'logical')
            AS logical
    FROM leadership l JOIN takeovers t USING (epoch)
    WHERE t.first_ack IS NOT NULL
        AND l.timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int4";

/// The marks of all channels.
pub(super) struct All;

impl ProvenRead for All {
    type Found = HighWaterMarks;

    const WHAT: &'static str = "reading how far channels are";
    const BEGINS: bool = true;

    async fn read(
        &self,
        source: &mut Source<'_>,
        fence: Fence,
    ) -> Result<Result<HighWaterMarks, WrongServer>, Fault> {
        let all_waited_for = all_waited_for(source).await?;
        source.execute(fence::BEGIN).await?;
        if let Err(wrong_server) = fence.prove(source).await? {
            return Ok(Err(wrong_server));
        }
        let mut marks = read(source).await?;
        marks.all_waited_for = all_waited_for;
        Ok(Ok(marks))
    }
}

/// Whether every commit waits for each replica that there is; `None` where that is not known. To be read before the
/// channels are: what is committed after this is after the setting was read, or in the marks.
async fn all_waited_for(source: &mut Source<'_>) -> Result<Option<bool>, Fault> {
    match source.all(REPLICAS, &[]).await {
        Ok(rows) => rows
            .first()
            .map(|row| {
                let (connected, logical) = (row.get("connected")?, row.get("logical")?);
                Ok(are_all_waited_for(row.get("names")?, connected, logical))
            })
            .transpose(),
        // Not every platform reports its timeline.
        Err(Fault::Pool(sqlx::Error::Database(_))) => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn read(source: &mut Source<'_>) -> Result<HighWaterMarks, Fault> {
    let mut marks = HighWaterMarks::default();
    source
        .each(MARKS, &[], |row| {
            let Some(id) = row.get::<Option<i64>>("channel_id")? else {
                marks.sql_is_used = row.get("sql_is_used")?;
                let row = Reading::new("leadership", &row, "1");
                marks.epoch = Epoch(row.number("epoch")?);
                marks.last_channel = row.number("last_channel_id")?;
                return Ok(());
            };
            let row = Reading::new("channels", &row, id);
            let mark = HighWaterMark {
                name: row.text("name", ChannelName::parse)?,
                created_at: Timestamp(row.get("created_at_ns")?),
                last: row.sequence("last_sequence")?,
            };
            marks.channels.insert(ChannelId(id.cast_unsigned()), mark);
            Ok(())
        })
        .await?;
    Ok(marks)
}

/// Whether every commit waits for each of the replicas, which are those `connected` that are not `logical`. `names` is
/// `synchronous_standby_names`: `FIRST 2 (a, b)`, `ANY 1 (*)`, `2 (a, b)`, or names alone, which means the first of them. The
/// leader session asks for `synchronous_commit` itself.
fn are_all_waited_for(names: &str, connected: i64, logical: i64) -> bool {
    let names = names.trim();
    let method = ["FIRST", "ANY"].into_iter().find_map(|word| {
        let (method, rest) = names.split_at_checked(word.len())?;
        method.eq_ignore_ascii_case(word).then_some(rest.trim())
    });
    let counted = method.unwrap_or(names).split_once('(');
    let waited_for = match counted {
        Some((count, _)) => count.trim().parse().unwrap_or(0),
        None => i64::from(!names.is_empty()),
    };
    connected > logical && connected <= waited_for
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_a_commit_does_not_wait_for_may_lack_it() {
        for (names, waited_for) in [
            ("", 0),
            (" ", 0),
            ("*", 1),
            ("a", 1),
            ("a, b", 1),
            ("first_one, any_other", 1),
            ("1 (a, b)", 1),
            ("2 (a, b, c)", 2),
            ("FIRST 2 (a, b)", 2),
            ("any 1 (*)", 1),
            ("ANY 3(\"a b\", c, d)", 3),
        ] {
            for replicas in 0..5 {
                let expected = replicas > 0 && replicas <= waited_for;
                let found = are_all_waited_for(names, replicas, 0);
                assert_eq!(found, expected, "{names:?} with {replicas}");
                // A commit may wait for who is no replica.
                assert!(!are_all_waited_for(names, replicas, replicas));
            }
        }
    }
}
