//! One version, wherever it is written.
use crate::program::read;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_chart_and_the_documents_name_the_version_of_the_program() {
    let chart = read("deploy/helm/stanby/Chart.yaml");
    for line in [
        format!("version: {VERSION}"),
        format!("appVersion: \"{VERSION}\""),
    ] {
        assert!(chart.lines().any(|it| it == line), "{line}: {chart}");
    }
    let install = read("docs/install.md");
    assert!(
        install.contains(&format!("stanby_{VERSION}-1_amd64.deb")),
        "docs/install.md names another package"
    );
    let security = read("SECURITY.md");
    let (major, _) = VERSION.split_once('.').unwrap();
    assert!(
        security.contains(&format!("| {major}.x |")),
        "SECURITY.md does not say whether {major}.x is supported"
    );
}

#[test]
fn the_changelog_has_a_dated_section_for_this_version_below_what_is_to_come() {
    let changelog = read("CHANGELOG.md");
    let sections: Vec<&str> = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(sections[0], "Unreleased");
    let (version, date) = sections[1].split_once(" - ").unwrap();
    assert_eq!(version, VERSION);
    date.parse::<jiff::civil::Date>().unwrap();
}
