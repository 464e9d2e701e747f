//! YAML as the files here use it, with `<<` merged in.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use yaml_rust2::{Yaml, YamlLoader};

use crate::program::read;

pub(crate) fn documents(path: &str) -> Vec<Yaml> {
    let text = read(path);
    let documents = YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    documents.iter().map(merged).collect()
}

fn merged(value: &Yaml) -> Yaml {
    match value {
        Yaml::Hash(entries) => {
            let mut all = entries.clone();
            if let Some(Yaml::Hash(base)) = all.remove(&Yaml::String("<<".to_owned())) {
                for (key, value) in base {
                    all.entry(key).or_insert(value);
                }
            }
            Yaml::Hash(all.iter().map(|(k, v)| (k.clone(), merged(v))).collect())
        }
        Yaml::Array(items) => Yaml::Array(items.iter().map(merged).collect()),
        Yaml::Real(_)
        | Yaml::Integer(_)
        | Yaml::String(_)
        | Yaml::Boolean(_)
        | Yaml::Alias(_)
        | Yaml::Null
        | Yaml::BadValue => value.clone(),
    }
}

pub(crate) fn strings(value: &Yaml) -> Vec<String> {
    let items = value
        .as_vec()
        .unwrap_or_else(|| panic!("a list: {value:?}"));
    items.iter().map(|item| text(item).unwrap()).collect()
}

pub(crate) fn texts(value: &Yaml) -> BTreeMap<String, String> {
    let entries = value
        .as_hash()
        .unwrap_or_else(|| panic!("a map: {value:?}"));
    entries
        .iter()
        .map(|(key, value)| (text(key).unwrap(), text(value).unwrap()))
        .collect()
}

/// Only what is text in the file: a number in an environment is a mistake to Kubernetes.
fn text(value: &Yaml) -> Option<String> {
    value.as_str().map(str::to_owned)
}
