//! What `scripts/package` makes of a program: once for all tests, of the one that is tested.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::docs::{all_pages, links_that_lead_nowhere};
use crate::program::root;
use crate::tools::{is_installed, run};
use serde_json::Value;

pub(crate) struct Packages {
    directory: PathBuf,
    /// By their names.
    sums: BTreeMap<String, String>,
}

/// `None` where Debian's tools are not installed.
pub(crate) static PACKAGES: LazyLock<Option<Packages>> = LazyLock::new(|| {
    if !is_installed("dpkg-shlibdeps") {
        return None;
    }
    // Removed by the next run: nothing is dropped when a test process ends.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    std::fs::remove_dir_all(&directory).ok();
    make(&directory);
    let sums = std::fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    let sums = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect();
    Some(Packages { directory, sums })
});

fn make(to: &Path) {
    let made = Command::new(root().join("scripts/package"))
        .args(["--program", env!("CARGO_BIN_EXE_stanby"), "--to"])
        .arg(to)
        .env("SOURCE_DATE_EPOCH", "1764406800")
        // Half a minute of compression tells nothing.
        .env("DPKG_DEB_COMPRESSOR_TYPE", "gzip")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

impl Packages {
    /// The one whose name ends so.
    pub(crate) fn file(&self, end: &str) -> PathBuf {
        let name = self.sums.keys().find(|name| name.ends_with(end)).unwrap();
        self.directory.join(name)
    }
}

#[test]
fn packages_come_with_checksums_that_hold() {
    let Some(packages) = &*PACKAGES else { return };
    let names: Vec<&String> = packages.sums.keys().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&packages.directory)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn the_same_program_is_packed_into_the_same_bytes() {
    let Some(packages) = &*PACKAGES else { return };
    let again = tempfile::tempdir().unwrap();
    make(again.path());
    let of = |directory: &Path| std::fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    assert_eq!(of(again.path()), of(&packages.directory));
}

#[test]
fn the_tarball_holds_a_program_that_runs_and_its_pages() {
    let Some(packages) = &*PACKAGES else { return };
    let to = tempfile::tempdir().unwrap();
    let file = packages.file(".tar.gz");
    let place = to.path().to_str().unwrap();
    run("tar", &["-xzf", file.to_str().unwrap(), "-C", place]);
    let name = file.file_name().unwrap().to_str().unwrap();
    let tree = to.path().join(name.strip_suffix(".tar.gz").unwrap());
    for file in [
        "LICENSE",
        "man/stanby-serve.1.gz",
        "completions/stanby.bash",
        "docs/install.md",
        "deploy/systemd/stanby.service",
        "stanby.cdx.json",
    ] {
        assert!(tree.join(file).is_file(), "{file}");
    }
    let (wrong, _) = links_that_lead_nowhere(&tree, &all_pages());
    assert_eq!(wrong, [""; 0]);
    let version = Command::new(tree.join("stanby"))
        .args(["version", "--json"])
        .output()
        .unwrap();
    let version: Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_bill_of_materials_names_what_is_built_in_and_no_crate_of_tests() {
    let Some(packages) = &*PACKAGES else { return };
    let text = std::fs::read_to_string(packages.file(".cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["timestamp"], "2025-11-29T09:00:00Z");
    let components = bill["components"].as_array().unwrap();
    let named = |name: &str| components.iter().find(|it| it["name"] == name);
    for name in ["tokio", "rustls", "sqlx", "ring", "async-nats"] {
        let component = named(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(component["hashes"][0]["alg"], "SHA-256", "{name}");
        assert!(component["licenses"][0]["expression"].is_string(), "{name}");
    }
    for name in ["proptest", "rcgen"] {
        assert!(named(name).is_none(), "{name} is of the tests alone");
    }
    let known: Vec<&Value> = components.iter().map(|it| &it["bom-ref"]).collect();
    for entry in bill["dependencies"].as_array().unwrap() {
        for on in entry["dependsOn"].as_array().unwrap() {
            assert!(known.contains(&on), "{on} is not among the components");
        }
    }
}
