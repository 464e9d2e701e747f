//! The queries behind what pages show, as people would write them: over the views, and with names as literals. What they
//! say is what the pages say.

/// A query, and the question that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    pub name: &'static str,
    pub question: &'static str,
    /// `:channel` and the like stand for what is asked about.
    sql: &'static str,
}

const fn statement(name: &'static str, question: &'static str, sql: &'static str) -> Statement {
    Statement {
        name,
        question,
        sql,
    }
}

/// What a statement may be about, by the names of their values.
const PLACES: [&str; 6] = [
    ":channel",
    ":durable",
    ":queue_group",
    ":client",
    ":sequence",
    ":epoch",
];

pub const STATEMENTS: &[Statement] = &[
    statement(
        "active",
        "Who is active, and since when?",
        "SELECT epoch, holder, host, pid, since, holds_lock FROM active;",
    ),
    statement(
        "standbys",
        "Who would take over?",
        "SELECT application_name, client_addr, connected_since FROM standbys;",
    ),
    statement(
        "conditions",
        "What is wrong with the active?",
        "SELECT kind, since, reason FROM conditions;",
    ),
    statement(
        "counts",
        "How much is there?",
        "SELECT k.clients, k.subscriptions, k.durables, h.channels, h.messages, h.bytes\nFROM cluster k, (\n    \
         SELECT count(*) AS channels, sum(message_count) AS messages, sum(byte_count) AS bytes\n    \
         FROM channels WHERE NOT deleting\n) h;",
    ),
    statement(
        "channels",
        "Which channels are there?",
        "SELECT s.name, u.messages, u.bytes, u.max_msgs_percent, u.max_bytes_percent, u.time_to_full, u.oldest_at,\n    \
         s.subscriptions, s.furthest_behind, s.behind, s.last_published_at\n\
         FROM channel_status s JOIN channel_usage u ON u.channel = s.name ORDER BY s.name;",
    ),
    statement(
        "channel",
        "What is in the channel, and how fast does it grow?",
        "SELECT * FROM channel_usage WHERE channel = :channel;",
    ),
    statement(
        "publishers",
        "Who publishes to the channel?",
        "SELECT * FROM publishers WHERE channel = :channel ORDER BY messages DESC;",
    ),
    statement(
        "limits",
        "Which limits hold for the channel, and where does each come from?",
        "SELECT * FROM channel_limits WHERE channel = :channel;",
    ),
    statement(
        "durables",
        "Which durables and queue groups are behind, and why?",
        "SELECT channel, durable_name, queue_group, clients, status, lag, in_flight, behind, why\n\
         FROM position_status WHERE coalesce(durable_name, queue_group) IS NOT NULL AND lag > 0\n\
         ORDER BY lag DESC LIMIT 100;",
    ),
    statement(
        "durables-of-channel",
        "How far are the durables and queue groups of the channel?",
        "SELECT durable_name, queue_group, clients, status, lag, in_flight, behind, why\n\
         FROM position_status WHERE channel = :channel AND coalesce(durable_name, queue_group) IS NOT NULL\n\
         ORDER BY lag DESC;",
    ),
    statement(
        "queue-group",
        "How far is the queue group, and why no further?",
        "SELECT * FROM position_status\n\
         WHERE channel = :channel AND durable_name IS NULL AND queue_group = :queue_group;",
    ),
    statement(
        "in-flight-of-group",
        "What is in flight, and with whom?",
        "SELECT sequence, client_id, age, publisher FROM in_flight\n\
         WHERE channel = :channel AND durable_name IS NULL AND queue_group = :queue_group ORDER BY sequence LIMIT 100;",
    ),
    statement(
        "durable",
        "How far is the durable, and why no further?",
        "SELECT * FROM durables WHERE channel = :channel AND durable_name = :durable;",
    ),
    statement(
        "in-flight",
        "What is in flight, and with whom?",
        "SELECT sequence, client_id, age, publisher FROM in_flight\n\
         WHERE channel = :channel AND durable_name = :durable ORDER BY sequence LIMIT 100;",
    ),
    statement(
        "clients",
        "Which clients are connected, and do they answer?",
        "SELECT client_id, connected_at, last_heartbeat_at, missed_heartbeats, subscriptions\n\
         FROM client_status ORDER BY missed_heartbeats DESC, client_id;",
    ),
    statement(
        "client",
        "How is the client?",
        "SELECT * FROM client_status WHERE client_id = :client;",
    ),
    statement(
        "subscriptions",
        "What does the client subscribe to?",
        "SELECT channel, durable_name, queue_group, status, lag, in_flight, behind, why\n\
         FROM subscription_status WHERE client_id = :client;",
    ),
    statement(
        "messages",
        "Which messages came last?",
        "SELECT sequence, published_at, client_id, size_bytes, text FROM readable_messages\n\
         WHERE channel = :channel ORDER BY sequence DESC LIMIT 50;",
    ),
    statement(
        "message",
        "What is in the message?",
        "SELECT * FROM readable_messages WHERE channel = :channel AND sequence = :sequence;",
    ),
    statement(
        "takers",
        "Who has acked the message, and who has it?",
        "SELECT p.durable_name, p.queue_group, p.clients, f.client_id AS holder,\n    \
         CASE WHEN p.last_sent < :sequence THEN 'unsent' WHEN f.sequence IS NOT NULL THEN 'in flight' ELSE 'acked' END AS state\n\
         FROM position_status p\n\
         LEFT JOIN in_flight f ON f.position_id = p.position_id AND f.channel = p.channel AND f.sequence = :sequence\n\
         WHERE p.channel = :channel;",
    ),
    statement(
        "hours",
        "How many messages came in each hour?",
        "SELECT date_trunc('hour', published_at) AS hour, count(*)\n\
         FROM messages_since(:channel, now() - interval '24 hours') GROUP BY 1 ORDER BY 1;",
    ),
    statement(
        "takeovers",
        "When was there a takeover, and what did clients see of it?",
        "SELECT epoch, at, from_holder, to_holder, cause, detail, silence, answered_from_memory\n\
         FROM takeovers ORDER BY epoch DESC LIMIT 50;",
    ),
    statement(
        "failovers",
        "Was anything lost in a failover of Postgres?",
        "SELECT epoch, at, restored, lost, unknown, ranges FROM database_failovers ORDER BY epoch DESC;",
    ),
    statement(
        "servers",
        "What are the servers set up with?",
        "SELECT host, is_active, is_standby, version, pages, settings, told_at FROM server_settings ORDER BY told_at DESC;",
    ),
    statement(
        "audit",
        "Who has changed what?",
        "SELECT id, verb, arguments, role, application, client_address, created_at, state, result, error\n\
         FROM admin_log LIMIT 50;",
    ),
    statement(
        "dead",
        "Which messages were given up, and why?",
        "SELECT channel, origin_channel, durable_name, queue_group, reason, publisher, count(*) FROM dead_letter_status\n\
         WHERE redriven_at IS NULL GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 7 DESC;",
    ),
    statement(
        "redrive",
        "How are dead letters published again where they came from?",
        "SELECT request_redrive(:channel);",
    ),
    statement(
        "retry-refused",
        "How is what could not be stored put back?",
        "SELECT retry_refused();",
    ),
    statement(
        "refused",
        "What was published in SQL and could not be stored?",
        "SELECT reason, channel, publisher, count(*) FROM refused_publishes GROUP BY 1, 2, 3 ORDER BY 4 DESC;",
    ),
    statement(
        "unreadable",
        "Which messages cannot be read?",
        "SELECT c.name, u.sequence, u.why, u.noticed_at\n\
         FROM unreadable_messages u JOIN channels c USING (channel_id) ORDER BY 1, 2;",
    ),
];

impl Statement {
    pub fn find(name: &str) -> Option<&'static Self> {
        STATEMENTS.iter().find(|it| it.name == name)
    }

    /// With what it is about as literals; `value` knows it by names such as `channel`.
    pub fn text(&self, value: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        let mut rest = self.sql;
        while let Some((at, place)) = next_place(rest) {
            text.push_str(&rest[..at]);
            text.push_str(&literal(&value(&place[1..])));
            rest = &rest[at + place.len()..];
        }
        text + rest
    }
}

fn next_place(text: &str) -> Option<(usize, &'static str)> {
    let found = PLACES
        .iter()
        .filter_map(|place| Some((text.find(place)?, *place)));
    found.min()
}

/// As Postgres reads it, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_in_a_statement_as_a_literal_whatever_it_is() {
        let statement = Statement::find("durable").unwrap();
        let text = statement.text(|name| match name {
            "channel" => "o'r :durable".to_owned(),
            _ => "b\\'; DROP".to_owned(),
        });
        assert_eq!(
            text,
            "SELECT * FROM durables WHERE channel = 'o''r :durable' AND durable_name =  E'b\\\\''; DROP';"
        );
        let names: std::collections::BTreeSet<_> = STATEMENTS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), STATEMENTS.len());
    }
}
