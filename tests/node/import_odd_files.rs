//! `stanby import --from DIRECTORY` of a store with something in the place of a file.

use std::process::Command;

use crate::cli::{code, stderr, stdout};
use crate::import_files::Ground;
use crate::stores::Case;

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    for (file, reason) in [
        (
            "server.dat",
            "server.dat is a directory, a pipe or a device",
        ),
        (
            "clients.dat",
            "clients.dat is a directory, a pipe or a device",
        ),
        (
            "orders/subs.dat",
            "subs.dat is a directory, a pipe or a device",
        ),
        (
            "orders/msgs.1.dat",
            "\"orders\"/msgs.1.dat: it is a directory, a pipe, a device",
        ),
    ] {
        let case = Case::unpack("plain-clean");
        let path = case.store().join(file);
        std::fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let from = format!("file:{}", case.store().display());
        let output = ground.import(&case, &from, &["--dry-run"]).await;
        let told = stderr(&output) + &stdout(&output);
        assert_eq!(code(&output), Some(1), "{file}: {told}");
        assert!(told.contains(reason), "{file}: {told}");
    }
}

/// The former server does not start on one: it reads a version from each file that is there.
#[tokio::test]
async fn a_file_without_a_byte_is_damage_and_not_only_remarked() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    for file in [
        "server.dat",
        "clients.dat",
        "orders/subs.dat",
        // Of a channel, and one behind those that hold something.
        "orders/msgs.1.dat",
        "orders/msgs.99.dat",
    ] {
        let case = Case::unpack("plain-clean");
        let path = case.store().join(file);
        std::fs::write(&path, "").unwrap();
        if file.contains("msgs") {
            std::fs::remove_file(path.with_extension("idx")).ok();
        }
        let from = format!("file:{}", case.store().display());
        let output = ground.import(&case, &from, &["--dry-run"]).await;
        let told = stderr(&output) + &stdout(&output);
        assert_eq!(code(&output), Some(1), "{file}: {told}");
        let name = file.rsplit('/').next().unwrap();
        for part in [name, "empty", "--skip-damaged"] {
            assert!(told.contains(part), "{file}: {part}: {told}");
        }
        let output = ground
            .import(&case, &from, &["--dry-run", "--skip-damaged"])
            .await;
        let told = stderr(&output) + &stdout(&output);
        assert_eq!(code(&output), Some(0), "{file}: {told}");
        assert!(told.contains("left out"), "{file}: {told}");
    }
}

#[tokio::test]
async fn an_index_that_is_none_is_named_itself() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    std::fs::write(case.store().join("orders/msgs.1.idx"), [7, 0, 0, 0, 1]).unwrap();
    let from = format!("file:{}", case.store().display());
    let output = ground.import(&case, &from, &["--dry-run"]).await;
    let told = stderr(&output);
    assert_eq!(code(&output), Some(1), "{told}");
    let reason = "orders/msgs.1.idx: it says version 7";
    assert!(told.contains(reason), "{told}");
}
