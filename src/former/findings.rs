//! What is found while files are read: damage, and what is only remarkable.

use super::files::slice::Finding;
use super::problems::Problems;

#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub problems: Problems,
    /// These are limited in number, too.
    notes: Problems,
    skips_damaged: bool,
}

impl Findings {
    /// With `skips_damaged`, what is damaged is left out and noted.
    pub fn new(skips_damaged: bool) -> Self {
        Self {
            skips_damaged,
            ..Self::default()
        }
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.notes.add(what);
    }

    pub fn damage(&mut self, place: &str, what: &str) {
        if self.skips_damaged {
            self.notes.add(format!("left out: {place}: {what}"));
        } else {
            self.problems.add(format!(
                "{place}: {what}; --skip-damaged leaves it out and imports the rest"
            ));
        }
    }

    pub fn add(&mut self, place: &str, finding: Finding) {
        match finding {
            Finding::Cut(what) => self.notes.add(format!("{place}: {what}")),
            Finding::Damage(what) => self.damage(place, &what),
        }
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.sentences()
    }
}
