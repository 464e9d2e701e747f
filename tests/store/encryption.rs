//! Payloads that are encrypted in the tables: what stands there, who can read it, and what a change of keys takes.

use std::num::NonZeroU32;
use std::sync::Arc;

use stanby::config::Encryption;
use stanby::config::encryption::Cipher;
use stanby::core::batch::{Batch, ChannelRow};
use stanby::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, LoadId, Sequence};
use stanby::core::load::{Load, LoadQuery, Loaded};
use stanby::core::message::Message;
use stanby::core::time::Timestamp;
use stanby::store::{Error, Keyring, Store, Writer};
use tokio_postgres::Client;

use super::fixture::{Fixture, SCHEMA, TIMEOUT, migrated};

const CHANNEL: ChannelId = ChannelId(1);

const NAME: &str = "orders";

/// Rounds of the derivation of keys, which takes its time.
const FEW: NonZeroU32 = NonZeroU32::new(100).unwrap();

fn keys(key: Option<&str>, others: &[&str]) -> Encryption {
    Encryption {
        key: key.map(Into::into),
        other_keys: others.iter().map(|&key| key.into()).collect(),
        cipher: Cipher::Aes,
    }
}

/// As a server that starts with these keys sees the tables.
fn store(fixture: &Fixture, keys: &Encryption) -> Store {
    Store::open(&fixture.url, SCHEMA, "stanby/test", TIMEOUT).with_keys(Keyring::with_iterations(
        keys,
        "test-cluster",
        FEW,
    ))
}

/// A server of these keys that has just become active.
struct Term {
    store: Store,
    client: Client,
    writer: Writer,
    epoch: Epoch,
}

impl Term {
    async fn begin(fixture: &Fixture, keys: &Encryption, epoch: u64) -> Result<Self, Error> {
        let store = store(fixture, keys);
        let (client, mut writer) = fixture.writer().await;
        let epoch = Epoch(epoch);
        let advance = "UPDATE leadership SET epoch = $1";
        let number = epoch.0.cast_signed();
        client.execute(advance, &[&number]).await.unwrap();
        writer.seal_with({
            let keys = store.keys_and_terms(&client).await?;
            store.begin_term(&client, epoch, keys).await?
        });
        Ok(Self {
            store,
            client,
            writer,
            epoch,
        })
    }

    /// Publishes texts, the first as message `first` of the channel.
    async fn publish(&self, first: u64, texts: &[&'static str]) {
        let messages = (first..).zip(texts).map(|(sequence, text)| {
            let message = Message {
                sequence: Sequence(sequence),
                published_at: Timestamp(1),
                client_id: ClientId::parse("alice".into()).unwrap(),
                guid: Guid::parse(format!("guid-{sequence}").into()).unwrap(),
                reply: "".into(),
                data: text.as_bytes().into(),
            };
            (CHANNEL, Arc::new(message))
        });
        let batch = Batch {
            channels: [(CHANNEL, Some(channel()))].into(),
            messages: messages.collect(),
            ..Batch::default()
        };
        let applied = self.writer.apply(&self.client, &batch, self.epoch).await;
        applied.unwrap();
    }

    async fn execute(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap();
    }

    async fn number(&self, query: &str) -> i64 {
        self.client.query_one_scalar(query, &[]).await.unwrap()
    }

    /// What subscribers would get, and which sequences they would not.
    async fn read(&self) -> (Vec<String>, Vec<u64>) {
        let want = LoadQuery::Range {
            first: Sequence(1),
            last: Sequence(100),
            count: 100,
            bytes: usize::MAX,
        };
        match self.load(want).await {
            Loaded::Messages {
                messages,
                unreadable,
                ..
            } => {
                let texts = messages.iter();
                let texts = texts.map(|m| String::from_utf8(m.data.to_vec()).unwrap());
                let unreadable = unreadable.iter().map(|row| row.sequence.0);
                (texts.collect(), unreadable.collect())
            }
            other @ (Loaded::FirstSince { .. }
            | Loaded::Oldest { .. }
            | Loaded::Gone(_)
            | Loaded::Outbox(_)
            | Loaded::Policies(_)
            | Loaded::DeadLetters(_)
            | Loaded::Requests(_)) => {
                panic!("{other:?}")
            }
        }
    }

    async fn load(&self, want: LoadQuery) -> Loaded {
        let load = Load {
            id: LoadId(1),
            channel: CHANNEL,
            query: want,
        };
        self.store.load(&load).await.unwrap()
    }
}

fn channel() -> ChannelRow {
    ChannelRow {
        name: ChannelName::parse(NAME.into()).unwrap(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(9),
        last_published_at: Timestamp(1),
        message_count: 9,
        byte_count: 1,
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The sentence of a server that may not start.
async fn refusal(fixture: &Fixture, keys: &Encryption) -> String {
    match store(fixture, keys).check_keys().await {
        Err(Error::Key(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn payloads_do_not_stand_in_the_tables_and_are_read_as_they_were_published() {
    for cipher in [Cipher::Aes, Cipher::ChaCha] {
        let Some(fixture) = migrated().await else {
            return;
        };
        let keys = Encryption {
            cipher,
            ..keys(Some("k1"), &[])
        };
        let term = Term::begin(&fixture, &keys, 1).await.unwrap();
        let published = ["a secret", "", "a secret"];
        term.publish(1, &published).await;

        assert_eq!(term.read().await, (texts(&published), vec![]));
        let found = "SELECT count(*) FROM messages WHERE position('secret'::bytea IN data) > 0 OR NOT encrypted";
        assert_eq!(term.number(found).await, 0);
        let different = "SELECT count(DISTINCT data) FROM messages";
        assert_eq!(term.number(different).await, 3, "the same text twice");
        let shown = "SELECT count(*) FROM readable_messages
            WHERE text = 'encrypted' AND encrypted AND size_bytes = CASE sequence WHEN 2 THEN 0 ELSE 8 END";
        assert_eq!(term.number(shown).await, 3);
        let known = "SELECT count(*) FROM term_keys t, encryption_keys k
            WHERE position('k1'::bytea IN t.wrapped_key || k.salt || k.known_value) > 0";
        assert_eq!(term.number(known).await, 0);

        // Another process with the same key, after a kill.
        let next = Term::begin(&fixture, &keys, 2).await.unwrap();
        assert_eq!(next.read().await, (texts(&published), vec![]));
    }
}

#[tokio::test]
async fn limits_count_what_was_published_and_not_what_encryption_adds() {
    let sizes = async |keys: &Encryption| {
        let fixture = migrated().await?;
        let term = Term::begin(&fixture, keys, 1).await.unwrap();
        term.publish(1, &["a", "bcd"]).await;
        let want = LoadQuery::Oldest {
            first: Sequence(1),
            count: 10,
        };
        match term.load(want).await {
            Loaded::Oldest { oldest, .. } => Some(oldest),
            other @ (Loaded::FirstSince { .. }
            | Loaded::Messages { .. }
            | Loaded::Gone(_)
            | Loaded::Outbox(_)
            | Loaded::Policies(_)
            | Loaded::DeadLetters(_)
            | Loaded::Requests(_)) => {
                panic!("{other:?}")
            }
        }
    };
    let Some(plain) = sizes(&keys(None, &[])).await else {
        return;
    };

    assert_eq!(plain.len(), 2);
    assert_eq!(sizes(&keys(Some("k1"), &[])).await, Some(plain));
}

#[tokio::test]
async fn an_encrypted_row_that_was_moved_or_changed_costs_only_itself() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let term = Term::begin(&fixture, &keys(Some("k1"), &[]), 1).await;
    let term = term.unwrap();
    term.publish(1, &["1", "2", "3", "4", "5", "6", "7"]).await;
    term.execute(
        "UPDATE messages a SET data = b.data FROM messages b WHERE (a.sequence, b.sequence) IN ((2, 3), (3, 2));
         UPDATE messages SET data = set_byte(data, 10, get_byte(data, 10) # 1) WHERE sequence = 5;
         UPDATE messages SET client_id = 'mallory' WHERE sequence = 6;
         UPDATE messages SET epoch = 2 WHERE sequence = 7",
    )
    .await;

    assert_eq!(term.read().await, (texts(&["1", "4"]), vec![2, 3, 5, 6, 7]));
    let want = LoadQuery::Exactly {
        sequences: vec![Sequence(2)],
        bytes: 1,
    };
    let Loaded::Messages { unreadable, .. } = term.load(want).await else {
        panic!("messages were asked for")
    };
    assert_eq!(
        unreadable[0].why,
        "it cannot be decrypted: the row was changed, or moved from another place"
    );
}

#[tokio::test]
async fn rows_from_before_and_after_encryption_are_read_beside_encrypted_ones() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let none = keys(None, &[]);
    let plain = Term::begin(&fixture, &none, 1).await.unwrap();
    plain.publish(1, &["before"]).await;
    let term = Term::begin(&fixture, &keys(Some("k1"), &[]), 2).await;
    term.unwrap().publish(2, &["encrypted"]).await;

    let reads = keys(None, &["k1"]);
    let plain = Term::begin(&fixture, &reads, 3).await.unwrap();
    plain.publish(3, &["after"]).await;

    let all = texts(&["before", "encrypted", "after"]);
    assert_eq!(plain.read().await, (all, vec![]));
    let stored = "SELECT count(*) FROM messages WHERE encrypted = (sequence = 2)";
    assert_eq!(plain.number(stored).await, 3);
    let told = refusal(&fixture, &none).await;
    assert!(told.contains("this server was given no key"), "{told}");

    // With the last encrypted message its key goes, and anybody may serve again.
    plain
        .execute("DELETE FROM messages WHERE sequence <= 2")
        .await;
    Term::begin(&fixture, &reads, 4).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM term_keys) + (SELECT count(*) FROM encryption_keys)";
    assert_eq!(plain.number(left).await, 0);
    store(&fixture, &none).check_keys().await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_is_refused_at_the_start_and_at_a_takeover() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let right = keys(Some("k1-geheim"), &[]);
    let term = Term::begin(&fixture, &right, 1).await.unwrap();
    term.publish(1, &["secret"]).await;

    store(&fixture, &right).check_keys().await.unwrap();
    let wrong = keys(Some("k2-geheim"), &["k3-geheim"]);
    let told = refusal(&fixture, &wrong).await;
    for part in [
        "another key than this server was given (number 1,",
        "the same NATS_STREAMING_ENCRYPTION_KEY",
        "STANBY_ENCRYPTION_OTHER_KEYS",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("geheim"), "{told}");
    let begun = Term::begin(&fixture, &wrong, 2).await;
    assert!(matches!(begun.err(), Some(Error::Key(_))));
    assert_eq!(term.number("SELECT count(*) FROM term_keys").await, 1);
}

#[tokio::test]
async fn after_a_change_of_keys_the_former_one_is_needed_until_the_next_term_only() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let former = keys(Some("k1"), &["k2"]);
    let term = Term::begin(&fixture, &former, 1).await.unwrap();
    term.publish(1, &["old"]).await;
    let new = keys(Some("k2"), &[]);
    let told = refusal(&fixture, &new).await;
    assert!(told.contains("number 1"), "{told}");

    let both = keys(Some("k2"), &["k1"]);
    store(&fixture, &both).check_keys().await.unwrap();
    let term = Term::begin(&fixture, &both, 2).await.unwrap();
    term.publish(2, &["new"]).await;

    let term = Term::begin(&fixture, &new, 3).await.unwrap();
    assert_eq!(term.read().await, (texts(&["old", "new"]), vec![]));
    let numbers = "SELECT count(*) FROM encryption_keys WHERE key_number = 2";
    assert_eq!(term.number(numbers).await, 1);
    let told = refusal(&fixture, &keys(Some("k1"), &[])).await;
    assert!(told.contains("number 2"), "{told}");
    // A server that was told of both from the first on has not been shut out at any point.
    store(&fixture, &former).check_keys().await.unwrap();
}

#[tokio::test]
async fn the_damaged_key_of_a_term_costs_its_messages_only() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let keys = keys(Some("k1"), &[]);
    for (epoch, text) in [(1, "first"), (2, "second"), (3, "third")] {
        let term = Term::begin(&fixture, &keys, epoch).await.unwrap();
        term.publish(epoch, &[text]).await;
    }
    let client = fixture.client().await;
    // Row 1 gets the key of row 2: it is bound to its term.
    let damage = "UPDATE term_keys SET wrapped_key = (SELECT wrapped_key FROM term_keys WHERE epoch = 2) WHERE epoch = 1;
        DELETE FROM term_keys WHERE epoch = 3";
    client.batch_execute(damage).await.unwrap();

    let term = Term::begin(&fixture, &keys, 4).await.unwrap();

    assert_eq!(term.read().await, (texts(&["second"]), vec![1, 3]));
    assert_eq!(term.number("SELECT count(*) FROM term_keys").await, 3);
}

#[tokio::test]
async fn a_key_that_was_used_in_one_cluster_is_of_no_use_in_another() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let keys = keys(Some("k1"), &[]);
    let term = Term::begin(&fixture, &keys, 1).await.unwrap();
    term.publish(1, &["secret"]).await;

    let other = Store::open(&fixture.url, SCHEMA, "stanby/test", TIMEOUT)
        .with_keys(Keyring::with_iterations(&keys, "other-cluster", FEW));
    let keys = other.keys_and_terms(&term.client).await.unwrap();
    let begun = other.begin_term(&term.client, Epoch(2), keys).await;
    begun.unwrap();
    let load = Load {
        id: LoadId(1),
        channel: CHANNEL,
        query: LoadQuery::Exactly {
            sequences: vec![Sequence(1)],
            bytes: 100,
        },
    };
    let Loaded::Messages { unreadable, .. } = other.load(&load).await.unwrap() else {
        panic!("messages were asked for")
    };
    assert_eq!(unreadable.len(), 1);
}

#[tokio::test]
async fn servers_that_know_nothing_of_encryption_are_kept_out_once_something_is_encrypted() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let old = fixture.client().await;
    let takes_over = "UPDATE leadership SET epoch = epoch + 1";
    old.batch_execute(takes_over).await.unwrap();
    let oldest = "SELECT oldest_server FROM schema_compatibility";
    let oldest = async || -> i64 { old.query_one_scalar(oldest, &[]).await.unwrap() };
    assert_eq!(oldest().await, 1);

    let term = Term::begin(&fixture, &keys(Some("k1"), &[]), 5).await;

    let error = old.batch_execute(takes_over).await.unwrap_err();
    let told = error.as_db_error().unwrap().message();
    assert!(told.contains("too old to read"), "{told}");
    assert_eq!(oldest().await, 6);
    term.unwrap().execute(takes_over).await;
}
