//! `stanby import --from raft:…` with directories that do not belong together: refused, with the ones that do not and why.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crc::{CRC_32_ISO_HDLC, Crc};
use futures_util::StreamExt as _;

use crate::cli::{code, stderr, stdout};
use crate::import_files::Ground;
use crate::stores::{Case, names, text};

/// Store and log of a node.
fn parts(case: &Case, node: &str) -> [PathBuf; 2] {
    let node = &case.expected["nodes"][node];
    ["store", "raft"].map(|part| case.root().join(text(&node[part])))
}

/// As `--from raft:` takes them.
fn pair([store, log]: &[PathBuf; 2]) -> String {
    format!("{}:{}", store.display(), log.display())
}

fn node(case: &Case, node: &str) -> String {
    pair(&parts(case, node))
}

fn names_of_nodes(case: &Case) -> Vec<String> {
    let nodes = case.expected["nodes"].as_object().unwrap();
    nodes.keys().cloned().collect()
}

async fn refused(ground: &Ground, case: &Case, places: &[&str], reasons: &[&str]) {
    let from = format!("raft:{}", places.join(","));
    let output = ground.import(case, &from, &[]).await;
    let told = stderr(&output);
    assert_eq!(code(&output), Some(1), "{from}: {told}{}", stdout(&output));
    for reason in reasons {
        assert!(told.contains(reason), "{from}: {reason}: {told}");
    }
}

fn copied(from: &Path, to: &Path) {
    let copy = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copy.unwrap().success());
}

/// Each with the directories of its nodes.
fn clusters() -> Vec<Case> {
    let names = names("raft-", true);
    names.iter().map(|name| Case::unpack(name)).collect()
}

#[tokio::test]
async fn any_nodes_of_one_cluster_belong_together() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let ground = &ground;
    let cases = clusters();
    let pairs = cases.iter().flat_map(|case| {
        let nodes = names_of_nodes(case);
        let of = |at: usize| {
            (
                case,
                nodes[at].clone(),
                nodes[(at + 1) % nodes.len()].clone(),
            )
        };
        (0..nodes.len())
            .map(of)
            .filter(|(_, one, other)| one != other)
            .collect::<Vec<_>>()
    });
    let imports = pairs.map(|(case, one, other)| async move {
        let from = format!("raft:{},{}", node(case, &one), node(case, &other));
        let output = ground.import(case, &from, &["--dry-run"]).await;
        assert_eq!(code(&output), Some(0), "{from}: {}", stderr(&output));
        let told = stdout(&output);
        assert!(!told.contains("whether they are of one cluster"), "{told}");
    });
    let done = futures_util::stream::iter(imports).buffer_unordered(3);
    done.collect::<Vec<()>>().await;
}

#[tokio::test]
async fn nodes_of_two_clusters_of_one_id_are_refused_or_it_is_told_that_nothing_proves_anything() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let ground = &ground;
    let cases = clusters();
    let pairs = cases.iter().enumerate().flat_map(|(at, one)| {
        let others = cases[..at].iter();
        others.map(move |other| (one, other))
    });
    let imports = pairs.map(|(one, other)| async move {
        let first = names_of_nodes(one)[0].clone();
        let last = names_of_nodes(other).pop().unwrap();
        let from = format!("raft:{},{}", node(one, &first), node(other, &last));
        let has_key = !other.environment().is_empty();
        let output = ground
            .import(if has_key { other } else { one }, &from, &["--dry-run"])
            .await;
        let told = stderr(&output);
        let reasons = ["do not belong together", "are not of one cluster"];
        if code(&output) == Some(1) {
            return assert!(reasons.iter().any(|it| told.contains(it)), "{from}: {told}");
        }
        // A snapshot has taken the place of all that their logs had in common.
        assert_eq!(code(&output), Some(0), "{from}: {told}");
        let is_told = stdout(&output).contains("do not show whether they are of one cluster");
        assert!(is_told, "{from}: {told}{}", stdout(&output));
    });
    let done = futures_util::stream::iter(imports).buffer_unordered(3);
    done.collect::<Vec<()>>().await;
}

#[tokio::test]
async fn directories_that_do_not_belong_together_are_named_with_the_reason() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let clean = Case::unpack("raft-clean");
    let lagging = Case::unpack("raft-lagging");
    let snapshot = Case::unpack("raft-snapshot");
    let [store, log] = parts(&clean, "a");
    let [a, x] = [node(&clean, "a"), node(&lagging, "x")];
    let shown = store.to_str().unwrap();
    let reasons = [
        shown,
        "do not belong together",
        "has the nodes \"a\", \"b\", \"c\"",
        "the second is \"x\"",
    ];
    refused(&ground, &clean, &[&a, &x], &reasons).await;

    // Of the same names: their logs tell.
    let b = node(&snapshot, "b");
    let reasons = [
        shown,
        "do not belong together",
        "of two clusters of one cluster ID",
    ];
    refused(&ground, &clean, &[&a, &b], &reasons).await;
    let other_a = node(&snapshot, "a");
    refused(&ground, &clean, &[&a, &other_a], &reasons).await;

    // Store and log of one place.
    let [_, log_of_x] = parts(&lagging, "x");
    let mixed = pair(&[store.clone(), log_of_x]);
    let reasons = [
        shown,
        "is the store of node \"a\"",
        "\"x\", \"y\", \"z\"",
        "-cluster_log_path",
    ];
    refused(&ground, &clean, &[&mixed], &reasons).await;
    let uncommitted = Case::unpack("raft-uncommitted");
    let [_, log_of_another] = parts(&uncommitted, "b");
    let mixed = pair(&[store.clone(), log_of_another]);
    let reasons = ["channel \"split\"", "no directory of it", "STORE:LOG"];
    refused(&ground, &clean, &[&mixed], &reasons).await;
    let [store_of_another, _] = parts(&snapshot, "a");
    let mixed = pair(&[store_of_another, log.clone()]);
    let reasons = ["not of one cluster", "STORE:LOG"];
    refused(&ground, &clean, &[&mixed], &reasons).await;

    // The same once more.
    refused(&ground, &clean, &[&a, &a], &[shown, "is given twice"]).await;
    let link = clean.root().join("link");
    symlink(&store, &link).unwrap();
    let again = pair(&[link.clone(), log.clone()]);
    refused(
        &ground,
        &clean,
        &[&a, &again],
        &[shown, "link", "are one directory"],
    )
    .await;
    let [store_of_b, _] = parts(&clean, "b");
    let with_log_of_a = pair(&[store_of_b, log.clone()]);
    refused(
        &ground,
        &clean,
        &[&a, &with_log_of_a],
        &["with the same log", "STORE:LOG"],
    )
    .await;

    let copy = clean.root().join("copy");
    copied(store.parent().unwrap(), &copy);
    let copy = copy.to_str().unwrap();
    refused(
        &ground,
        &clean,
        &[&a, copy],
        &[shown, copy, "two copies of the same node \"a\""],
    )
    .await;

    // Another cluster ID.
    let renamed = clean.root().join("renamed");
    let [store_of_c, log_of_c] = parts(&clean, "c");
    copied(&store_of_c, &renamed);
    rename_cluster(&renamed.join("server.dat"));
    let renamed = pair(&[renamed, log_of_c]);
    let reasons = [
        "a node of cluster \"test-cluster\"",
        "one of \"best-cluster\"",
    ];
    refused(&ground, &clean, &[&a, &renamed], &reasons).await;
}

/// In place: version, then length, checksum and record.
fn rename_cluster(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let found: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(b"test-cluster"))
        .collect();
    for at in found {
        bytes[at] = b'b';
    }
    let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(&bytes[12..]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(file, bytes).unwrap();
}
