//! Generates the protobuf types, without needing `protoc` on the machine, and what `stanby version` says of the build.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/protocol.proto");
    let definitions = protox::compile(["proto/protocol.proto"], ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(definitions)?;
    describe_the_build();
    Ok(())
}

/// Nothing of it depends on when and where the build runs: the same source and compiler make the same program.
fn describe_the_build() {
    println!("cargo:rerun-if-env-changed=STANBY_BUILD_COMMIT");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // A build for tests would otherwise be made anew after every commit.
    let asks_git = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if asks_git && let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={head}");
    }
    let of_git = |arguments: &[&str]| if asks_git { git(arguments) } else { None };
    let commit = given("STANBY_BUILD_COMMIT").or_else(|| of_git(&["rev-parse", "HEAD"]));
    let epoch = given("SOURCE_DATE_EPOCH").or_else(|| of_git(&["log", "-1", "--format=%ct"]));
    let rustc = env::var("RUSTC")
        .ok()
        .and_then(|rustc| said(&rustc, &["--version"]));
    let mut features: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter_map(|name| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase))
        .collect();
    features.sort();
    for (name, value) in [
        ("STANBY_COMMIT", commit),
        ("STANBY_EPOCH", epoch),
        ("STANBY_RUSTC", rustc),
        ("STANBY_TARGET", env::var("TARGET").ok()),
        ("STANBY_FEATURES", Some(features.join(","))),
    ] {
        println!("cargo:rustc-env={name}={}", value.unwrap_or_default());
    }
}

fn given(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// `None` outside of a clone. A source tree that was unpacked inside of somebody else's clone is no part of it.
fn git(arguments: &[&str]) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    said("git", arguments)
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
