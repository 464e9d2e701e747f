//! What an old start line or file says that means something else here, or nothing: collected, so that a server says all of
//! it in one message.

use std::fmt;

/// Sorted by what the reader has to do about it: nothing, know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Flags and keys, as they were written.
    no_effect: Vec<String>,
    /// What was written, and what stands in its place.
    replaced: Vec<(String, &'static str)>,
}

impl Notes {
    pub fn no_effect(&mut self, name: impl Into<String>) {
        self.no_effect.push(name.into());
    }

    pub fn replaced(&mut self, name: impl Into<String>, by: &'static str) {
        self.replaced.push((name.into(), by));
    }

    pub fn append(&mut self, other: Self) {
        self.no_effect.extend(other.no_effect);
        self.replaced.extend(other.replaced);
    }

    pub fn is_empty(&self) -> bool {
        self.no_effect.is_empty() && self.replaced.is_empty()
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.no_effect.is_empty() {
            let list = self.no_effect.join(", ");
            parts.push(format!("no effect (remove them when you can): {list}"));
        }
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, by) in &self.replaced {
            match groups.iter_mut().find(|(group, _)| group == by) {
                Some((_, names)) => names.push(name),
                None => groups.push((by, vec![name])),
            }
        }
        for (by, names) in groups {
            parts.push(format!("replaced: {} by {by}", names.join(", ")));
        }
        write!(
            f,
            "settings of nats-streaming-server that mean something else here. {}",
            parts.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_names_all_of_it_sorted() {
        let mut notes = Notes::default();
        assert!(notes.is_empty());
        notes.no_effect("-dir");
        notes.replaced("-clustered", "the pair");
        notes.no_effect("-file_sync");
        notes.replaced("-store memory", "Postgres");
        notes.replaced("-cluster_peers", "the pair");

        assert_eq!(
            notes.to_string(),
            "settings of nats-streaming-server that mean something else here. no effect (remove them when you can): \
             -dir, -file_sync; replaced: -clustered, -cluster_peers by the pair; replaced: -store memory by Postgres"
        );
    }
}
