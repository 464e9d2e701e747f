//! `deploy/systemd/`.

use crate::program::{assert_parses, read};
use crate::tools::output;

const FILE: &str = "deploy/systemd/stanby.service";
const PROGRAM: &str = "/usr/bin/stanby";
const NATS_SERVER: &str = "/usr/sbin/nats-server";

fn value(key: &str) -> String {
    let unit = read(FILE);
    let found = unit
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key}")).to_owned()
}

#[test]
fn the_unit_starts_a_server_as_the_package_configures_it() {
    let line: Vec<String> = value("ExecStart").split(' ').map(str::to_owned).collect();
    assert_eq!(line[0], PROGRAM);
    assert_parses(&line);
    assert!(line.contains(&"/etc/stanby/stanby.toml".to_owned()));
    assert_eq!(value("EnvironmentFile"), "-/etc/stanby/secrets.env");
    // What the program does: it tells, SIGTERM makes it end with 143, and a wrong configuration with 2.
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("SuccessExitStatus"), "143");
    assert_eq!(value("RestartPreventExitStatus"), "2");
}

#[test]
fn systemd_takes_the_units() {
    for name in ["stanby.service", "stanby-nats.service"] {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join(name);
        let text = read(&format!("deploy/systemd/{name}"));
        let text = text
            .replace(PROGRAM, env!("CARGO_BIN_EXE_stanby"))
            .replace(NATS_SERVER, env!("CARGO_BIN_EXE_stanby"));
        std::fs::write(&unit, text).unwrap();

        let unit = unit.to_str().unwrap();
        let Some(output) = output("systemd-analyze", &["verify", "--man=no", unit]) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        // Units of the machine may have mistakes of their own.
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("stanby"))
            .collect();
        assert_eq!(ours, [""; 0]);
    }
}

#[test]
fn nats_is_there_before_the_server_that_would_start_one_itself() {
    let unit = read("deploy/systemd/stanby-nats.service");
    assert!(unit.contains("\nBefore=stanby.service\n"), "{unit}");
    assert!(
        unit.contains(&format!("\nExecStart={NATS_SERVER} --config ")),
        "{unit}"
    );
    let ours = read(FILE);
    for tie in ["BindsTo=", "PartOf=", "Requires="] {
        assert!(
            !unit.contains(tie) && !ours.contains(tie),
            "a restart of one would be one of both"
        );
    }
}
