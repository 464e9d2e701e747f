//! The figures as rows of text.

use std::fmt::Write;

#[derive(Default)]
pub(crate) struct Table(String);

impl Table {
    /// Returns the median.
    pub(crate) fn row(&mut self, what: &str, unit: &str, values: &[f64]) -> Option<f64> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (min, max) = (values.first()?, values.last()?);
        let median = values[values.len() / 2];
        let runs = values.len();
        let decimals = if *max < 100.0 { 2 } else { 0 };
        let row = format!(
            "{what:<64} {median:>10.decimals$} {min:>10.decimals$} {max:>10.decimals$} {unit:<6} {runs:>4}"
        );
        eprintln!("{row}");
        self.line(&row);
        Some(median)
    }

    pub(crate) fn head(&mut self) {
        self.line(&format!(
            "{:<64} {:>10} {:>10} {:>10} {:<6} {:>4}",
            "", "median", "min", "max", "", "runs"
        ));
    }

    pub(crate) fn line(&mut self, text: &str) {
        writeln!(self.0, "{text}").expect("a string takes everything");
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}
