//! What a file of rules for Prometheus says of each alert.

use anyhow::{Context as _, anyhow, ensure};
use yaml_rust2::{Yaml, YamlLoader};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) annotations: Vec<(String, String)>,
}

/// In their order. Recording rules are passed over.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Rule>> {
    let documents = YamlLoader::load_from_str(text).context("the rules are not YAML")?;
    let file = documents
        .first()
        .ok_or_else(|| anyhow!("the file of rules is empty"))?;
    let groups = file["groups"].as_vec();
    let groups = groups.ok_or_else(|| anyhow!("the file of rules has no `groups:`"))?;
    let mut found: Vec<Rule> = Vec::new();
    for group in groups {
        for rule in group["rules"].as_vec().into_iter().flatten() {
            let Some(name) = rule["alert"].as_str() else {
                continue;
            };
            ensure!(!name.is_empty(), "an alert of the rules has no name");
            // An alert may have several rules, by severity.
            if found.iter().all(|rule| rule.name != name) {
                found.push(Rule {
                    name: name.to_owned(),
                    labels: pairs(&rule["labels"]),
                    annotations: pairs(&rule["annotations"]),
                });
            }
        }
    }
    Ok(found)
}

fn pairs(of: &Yaml) -> Vec<(String, String)> {
    let pairs = of.as_hash().into_iter().flatten();
    let pairs = pairs.filter_map(|(name, value)| Some((name.as_str()?, value.as_str()?)));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
