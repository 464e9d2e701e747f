//! Directories that nats-streaming-server 0.25.6 wrote, with what it makes of each itself (`tests/stores/`).
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{SHA256, digest};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tempfile::TempDir;

/// One of them, unpacked.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) expected: Value,
    directory: TempDir,
}

fn packed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores")
}

/// The names of all that begin so or do not.
pub(crate) fn names(prefix: &str, begins: bool) -> Vec<String> {
    let files = std::fs::read_dir(packed()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let cases = names.filter_map(|name| Some(name.strip_suffix(".tar.gz")?.to_owned()));
    let mut cases: Vec<_> = cases
        .filter(|name| name.starts_with(prefix) == begins)
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

impl Case {
    pub(crate) fn unpack(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let unpacked = Command::new("tar")
            .args(["--no-same-owner", "-xzf"])
            .arg(packed().join(format!("{name}.tar.gz")))
            .arg("-C")
            .arg(directory.path())
            .status();
        assert!(unpacked.unwrap().success());
        let expected = Command::new("gzip")
            .arg("-dc")
            .arg(packed().join(format!("{name}.expected.json.gz")))
            .output();
        Self {
            name: name.to_owned(),
            expected: serde_json::from_slice(&expected.unwrap().stdout).unwrap(),
            directory,
        }
    }

    /// Where everything of it lies.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Of a standalone server.
    pub(crate) fn store(&self) -> PathBuf {
        self.root().join(text(&self.expected["directory"]))
    }

    pub(crate) fn cluster_id(&self) -> &str {
        text(&self.expected["cluster_id"])
    }

    /// The schema to import it into.
    pub(crate) fn schema(&self) -> String {
        self.name.replace('-', "_")
    }

    /// What comes out of it: with a damaged one, what the former server leaves of it.
    pub(crate) fn recovered(&self) -> &Value {
        let of_damaged = &self.expected["with_file_truncate_bad_eof"]["recovered"];
        if of_damaged.is_null() {
            &self.expected["recovered"]
        } else {
            of_damaged
        }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.expected["server_starts"] == Value::Bool(false)
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let key = self.expected["encryption_key"].as_str();
        let key = key.map(|key| ("STANBY_FROM_ENCRYPTION_KEY", key.to_owned()));
        key.into_iter().collect()
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// What a directory comes to, in words that can be compared: from the tables, and from what the former server told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    subjects: Vec<String>,
    clients: BTreeSet<String>,
    /// Name to first, last and count.
    channels: BTreeMap<String, (u64, u64, u64)>,
    /// Channel and sequence to time, reply, size and hash.
    messages: BTreeMap<(String, u64), (i64, String, u64, String)>,
    /// Positions with their members.
    positions: BTreeSet<Position>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    channel: String,
    durable: String,
    queue: String,
    last_sent: u64,
    /// Sent and not acked, and still there.
    pending: BTreeSet<u64>,
    members: BTreeSet<String>,
}

fn member(client: &str, inboxes: [&str; 2], numbers: [i64; 2], online: bool) -> String {
    format!("{client} {inboxes:?} {numbers:?} online: {online}")
}

fn hash(data: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest(&SHA256, data).as_ref())
}

impl Contents {
    /// Of `expected.json`.
    pub(crate) fn told(recovered: &Value) -> Self {
        let mut contents = Self::default();
        let info = &recovered["server_info"];
        let subjects = [
            "discovery",
            "publish",
            "subscribe",
            "unsubscribe",
            "sub_close",
            "close",
        ];
        contents.subjects = subjects
            .iter()
            .map(|it| text(&info[*it]).to_owned())
            .collect();
        for client in recovered["clients"].as_array().unwrap() {
            let number = |name: &str| client[name].as_i64().unwrap();
            contents.clients.insert(format!(
                "{} {} {} {} {} {}",
                text(&client["id"]),
                text(&client["heartbeat_inbox"]),
                text(&client["conn_id_hex"]),
                number("protocol"),
                number("ping_interval_secs"),
                number("ping_max_out"),
            ));
        }
        for (name, channel) in recovered["channels"].as_object().unwrap() {
            contents.told_channel(name, channel);
        }
        contents
    }

    fn told_channel(&mut self, name: &str, channel: &Value) {
        let number = |value: &Value| value.as_u64().unwrap();
        let extent = ["first_seq", "last_seq", "count"].map(|it| number(&channel[it]));
        self.channels
            .insert(name.to_owned(), (extent[0], extent[1], extent[2]));
        for message in channel["messages"].as_array().unwrap() {
            self.messages.insert(
                (name.to_owned(), number(&message["seq"])),
                (
                    message["timestamp_ns"].as_i64().unwrap(),
                    message["reply"].as_str().unwrap_or_default().to_owned(),
                    number(&message["size"]),
                    text(&message["sha256"]).to_owned(),
                ),
            );
        }
        // Members of a queue group share a position.
        let mut groups: BTreeMap<String, Position> = BTreeMap::new();
        for (index, told) in channel["subscriptions"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let optional = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
            let kind = text(&told["kind"]);
            let queue = optional("queue");
            let (durable, queue) = match (kind, queue.split_once(':')) {
                ("durable_queue", Some((durable, queue))) => (durable.to_owned(), queue.to_owned()),
                _ => (optional("durable"), queue),
            };
            let key = if kind.contains("queue") {
                format!("{durable} of {queue}")
            } else {
                index.to_string()
            };
            let group = groups.entry(key).or_insert_with(|| Position {
                channel: name.to_owned(),
                durable,
                queue,
                last_sent: 0,
                pending: BTreeSet::new(),
                members: BTreeSet::new(),
            });
            let last_sent = told["group_last_sent"].as_u64();
            let last_sent = last_sent.unwrap_or_else(|| number(&told["last_sent"]));
            group.last_sent = group.last_sent.max(last_sent);
            let pending = told["pending_existing"].as_array().unwrap();
            group.pending.extend(pending.iter().map(number));
            let state = text(&told["state"]);
            if state != "empty_group" {
                let max_in_flight = told["max_in_flight"].as_i64().unwrap();
                let ack_wait = told["ack_wait_secs"].as_i64().unwrap();
                group.members.insert(member(
                    text(&told["client"]),
                    [text(&told["inbox"]), text(&told["ack_inbox"])],
                    [max_in_flight, ack_wait],
                    state == "online",
                ));
            }
        }
        self.positions.extend(groups.into_values());
    }

    /// Of the tables.
    pub(crate) async fn stored(url: &str, schema: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let path = format!("SET search_path = \"{schema}\"");
        sqlx::raw_sql(AssertSqlSafe(path))
            .execute(&mut connection)
            .await
            .unwrap();
        let mut contents = Self::default();
        let subjects =
            "SELECT ARRAY[discover_prefix, publish_prefix, subscribe_subject, unsubscribe_subject,
            close_subscription_subject, close_subject] FROM server_info";
        contents.subjects = sqlx::query_scalar(subjects)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let clients = "SELECT concat_ws(' ', client_id, heartbeat_inbox, encode(connection_id, 'hex'), protocol,
            ping_interval, ping_max_out) FROM clients";
        // An empty connection ID leaves two blanks in both.
        let clients: Vec<String> = sqlx::query_scalar(clients)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        contents.clients = clients.into_iter().collect();
        let channels = "SELECT name, first_sequence, last_sequence, message_count FROM channels";
        for row in sqlx::query(channels)
            .fetch_all(&mut connection)
            .await
            .unwrap()
        {
            let number = |column: usize| row.get::<i64, _>(column).cast_unsigned();
            // Nothing was ever published: the former server says 0 for the first.
            let first = if number(2) == 0 { 0 } else { number(1) };
            contents
                .channels
                .insert(row.get(0), (first, number(2), number(3)));
        }
        let messages = "SELECT c.name, m.sequence, m.published_at_ns, m.reply, m.data
            FROM messages m JOIN channels c USING (channel_id)";
        for row in sqlx::query(messages)
            .fetch_all(&mut connection)
            .await
            .unwrap()
        {
            let data: &[u8] = row.get(4);
            contents.messages.insert(
                (row.get(0), row.get::<i64, _>(1).cast_unsigned()),
                (row.get(2), row.get(3), data.len() as u64, hash(data)),
            );
        }
        contents.read_positions(&mut connection).await;
        contents
    }

    async fn read_positions(&mut self, connection: &mut PgConnection) {
        let positions = "SELECT p.position_id, c.name, coalesce(p.durable_name, ''), coalesce(p.queue_group, ''),
                p.last_sent,
                ARRAY(SELECT m.sequence FROM messages m WHERE m.channel_id = p.channel_id
                    AND m.sequence > p.acked_floor AND m.sequence <= p.last_sent AND NOT m.sequence <@ p.acked_above)
            FROM positions p JOIN channels c USING (channel_id)";
        let mut all: BTreeMap<i64, Position> = BTreeMap::new();
        for row in sqlx::query(positions)
            .fetch_all(&mut *connection)
            .await
            .unwrap()
        {
            let pending: Vec<i64> = row.get(5);
            all.insert(
                row.get(0),
                Position {
                    channel: row.get(1),
                    durable: row.get(2),
                    queue: row.get(3),
                    last_sent: row.get::<i64, _>(4).cast_unsigned(),
                    pending: pending.into_iter().map(i64::cast_unsigned).collect(),
                    members: BTreeSet::new(),
                },
            );
        }
        let members = "SELECT position_id, client_id, inbox, ack_inbox, max_in_flight::int8, ack_wait_ns / 1000000000,
            online FROM subscriptions";
        for row in sqlx::query(members)
            .fetch_all(&mut *connection)
            .await
            .unwrap()
        {
            let position = all.get_mut(&row.get::<i64, _>(0)).unwrap();
            position.members.insert(member(
                row.get(1),
                [row.get(2), row.get(3)],
                [row.get(4), row.get(5)],
                row.get(6),
            ));
        }
        self.positions = all.into_values().collect();
    }

    /// The same messages in the same channels; what is about clients a server that runs may have changed.
    pub(crate) fn assert_has_messages_of(&self, expected: &Self, case: &str) {
        assert_eq!(self.subjects, expected.subjects, "{case}");
        assert_eq!(self.channels, expected.channels, "{case}");
        assert_eq!(self.messages, expected.messages, "{case}");
        let durables = |contents: &Self| {
            let positions = contents.positions.iter();
            let durables = positions.filter(|position| !position.durable.is_empty());
            let names =
                durables.map(|it| (it.channel.clone(), it.durable.clone(), it.queue.clone()));
            names.collect::<BTreeSet<_>>()
        };
        assert_eq!(durables(self), durables(expected), "{case}");
    }

    /// What the two differ in, part by part.
    pub(crate) fn assert_is(&self, expected: &Self, case: &str) {
        assert_eq!(self.subjects, expected.subjects, "{case}");
        assert_eq!(self.clients, expected.clients, "{case}");
        assert_eq!(self.channels, expected.channels, "{case}");
        assert_eq!(self.messages, expected.messages, "{case}");
        let only_here: Vec<_> = self.positions.difference(&expected.positions).collect();
        let only_there: Vec<_> = expected.positions.difference(&self.positions).collect();
        assert!(
            self.positions == expected.positions,
            "{case}: {only_here:#?} instead of {only_there:#?}"
        );
    }
}
