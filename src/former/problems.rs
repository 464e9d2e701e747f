//! What keeps a former store from being taken over: rows that cannot be read.

/// More than these are counted only.
const SENTENCES_MAX: usize = 100;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    sentences: Vec<String>,
    omitted: u64,
}

impl Problems {
    pub fn add(&mut self, what: impl Into<String>) {
        if self.sentences.len() < SENTENCES_MAX {
            self.sentences.push(what.into());
        } else {
            self.omitted += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// A sentence each; the last one may say how many more there are.
    pub fn sentences(&self) -> Vec<String> {
        let more = (self.omitted > 0).then(|| format!("and {} more of this kind", self.omitted));
        self.sentences.iter().cloned().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_are_told_and_the_rest_is_counted() {
        let mut problems = Problems::default();
        assert!(problems.is_empty());
        for number in 0..103 {
            problems.add(number.to_string());
        }
        let sentences = problems.sentences();
        assert_eq!(sentences.len(), 101);
        assert_eq!(sentences[99..], ["99", "and 3 more of this kind"]);
    }
}
