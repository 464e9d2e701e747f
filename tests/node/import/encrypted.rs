//! Payloads that were encrypted where they are imported from.

use super::{CHANNEL, KEY, ensure_imported, ensure_nothing_written, group, import_with, refusal};
use crate::former::{Cipher, FormerTables, encrypted};
use crate::pair::LIMIT;
use crate::support::wait::wait_until;

/// With both ciphers, an empty payload and one from before encryption.
async fn fill_encrypted(tables: &mut FormerTables) {
    tables.channel(1, CHANNEL, 0).await;
    let aes = encrypted(KEY, Cipher::Aes, CHANNEL, 1, "secret 1");
    tables.message(1, CHANNEL, 1, &aes).await;
    let chacha = encrypted(KEY, Cipher::ChaCha, CHANNEL, 2, "secret 2");
    tables.message(1, CHANNEL, 2, &chacha).await;
    tables.message(1, CHANNEL, 3, b"").await;
}

#[tokio::test]
async fn encrypted_payloads_are_decrypted_and_encrypted_anew() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill_encrypted(&mut tables).await;
    tables.message(1, CHANNEL, 4, b"plain").await;

    let environment = [("NATS_STREAMING_ENCRYPTION_KEY", KEY)];
    ensure_imported(&import_with(&group, &[], &environment).await);

    let rows = group.tables().messages(CHANNEL).await;
    for row in &rows {
        let has = |part: &[u8]| row.data.windows(part.len()).any(|data| data == part);
        assert!(!has(b"secret") && !has(b"plain"), "{row:?}");
    }
    let server = group.server_changed(|command| {
        command.envs(environment);
    });
    server.wait_until_active().await;
    let client = group.client("alice").await;
    let subscription = client.subscribe(CHANNEL, "", "").await.unwrap();
    let data = wait_until(LIMIT, async || match subscription.received() {
        received if received.len() == 4 => Ok(received),
        received => Err(format!("{received:?}")),
    })
    .await;
    let data: Vec<_> = data.into_iter().map(|delivery| delivery.data).collect();
    assert_eq!(data, ["secret 1", "secret 2", "", "plain"]);
}

#[tokio::test]
async fn a_former_key_may_be_given_without_encrypting_from_now_on() {
    let Some((group, mut tables)) = group().await else {
        return;
    };
    fill_encrypted(&mut tables).await;

    for environment in [
        [("NATS_STREAMING_ENCRYPTION_KEY", "another-key-0123456789")],
        [("STANBY_FROM_ENCRYPTION_KEY", "another-key-0123456789")],
    ] {
        let text = refusal(&group, &[], &environment).await;
        assert!(text.contains("channel \"orders\", message 1: "), "{text}");
        assert!(text.contains("does not decrypt it"), "{text}");
        assert!(text.contains("in STANBY_FROM_ENCRYPTION_KEY"), "{text}");
        ensure_nothing_written(&group).await;
    }
    let text = refusal(&group, &[], &[]).await;
    assert!(
        text.contains("\"orders\" look encrypted, and no key"),
        "{text}"
    );
    ensure_nothing_written(&group).await;

    let output = import_with(&group, &[], &[("STANBY_FROM_ENCRYPTION_KEY", KEY)]).await;
    ensure_imported(&output);
    let rows = group.tables().messages(CHANNEL).await;
    let data: Vec<&[u8]> = rows.iter().map(|row| &row.data[..]).collect();
    assert_eq!(data, [&b"secret 1"[..], b"secret 2", b""]);
}
