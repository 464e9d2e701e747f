//! `deploy/prometheus/alerts.yml`: rules that Prometheus takes, and that fire when they are meant to.
//! (That every metric which they name exists is shown in `tests/node/monitoring.rs`.)

use crate::program::read;
use crate::tools::run;
use crate::yaml::documents;

const RULES: &str = "deploy/prometheus/alerts.yml";
const CASES: &str = "tests/deploy/alerts.yml";
const PAGE: &str = "docs/monitoring.md";

#[test]
fn alerts_fire_when_they_are_meant_to_and_say_where_to_look() {
    let rules = &documents(RULES)[0]["groups"][0]["rules"];
    let (cases, page) = (read(CASES), read(PAGE));
    for rule in rules.as_vec().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(
            cases.contains(&format!("alertname=\"{name}\"")),
            "no case of {CASES} has {name}"
        );
        assert!(
            page.contains(&format!("`{name}`")),
            "{PAGE} does not tell of {name}"
        );
        for annotation in ["summary", "look"] {
            let text = rule["annotations"][annotation].as_str();
            assert!(text.is_some(), "{name} has no {annotation}");
        }
    }
    run("promtool", &["test", "rules", CASES]);
}
