//! Rows to the core's types. What a person may have changed by hand is checked here, and reported by table, row and
//! reason.

use std::fmt::{Display, Write};

use bytestring::ByteString;

use super::error::{Error, Fault};
use super::source::{Column, Line};
use crate::core::ids::Sequence;
use crate::core::ranges::Ranges;

/// One row while it is being read; knows what to call itself when it is wrong.
pub(super) struct Reading<'r> {
    table: &'static str,
    row: &'r Line,
    key: String,
}

impl<'r> Reading<'r> {
    /// `key` says which row it is in an error.
    pub(super) fn new(table: &'static str, row: &'r Line, key: impl Display) -> Self {
        Self {
            table,
            row,
            key: key.to_string(),
        }
    }

    pub(super) fn corrupt(&self, why: impl Into<String>) -> Fault {
        Error::Corrupt {
            table: self.table,
            row: self.key.clone(),
            why: why.into(),
        }
        .into()
    }

    pub(super) fn get<T>(&self, column: &'static str) -> Result<T, Fault>
    where
        T: Column<'r>,
    {
        self.row.get(column).map_err(|fault| match fault {
            Fault::Pool(error) => self.corrupt(format!("column {column}: {error}")),
            Fault::Session(error) => self.corrupt(format!("column {column}: {error}")),
            fault @ Fault::Store(_) => fault,
        })
    }

    /// A number that the tables hold as bigint because Postgres has no unsigned one.
    pub(super) fn number<N: TryFrom<i64>>(&self, column: &'static str) -> Result<N, Fault> {
        let number: i64 = self.get(column)?;
        N::try_from(number)
            .map_err(|_| self.corrupt(format!("column {column}: {number} is out of range")))
    }

    /// Text that had to pass a check on its way in.
    pub(super) fn text<T>(
        &self,
        column: &'static str,
        parse: impl Fn(ByteString) -> Option<T>,
    ) -> Result<T, Fault> {
        let text: &str = self.get(column)?;
        parse(text.into()).ok_or_else(|| self.malformed(column))
    }

    pub(super) fn optional_text<T>(
        &self,
        column: &'static str,
        parse: impl Fn(ByteString) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let text: Option<&str> = self.get(column)?;
        text.map(|text| parse(text.into()).ok_or_else(|| self.malformed(column)))
            .transpose()
    }

    pub(super) fn sequence(&self, column: &'static str) -> Result<Sequence, Fault> {
        self.number(column).map(Sequence)
    }

    fn malformed(&self, column: &'static str) -> Fault {
        self.corrupt(format!("column {column} is not a valid name or subject"))
    }
}

/// The text of an `int8multirange`: `{[3,6),[9,10)}`.
pub(super) fn multirange(ranges: &Ranges) -> String {
    let mut text = String::from("{");
    for (first, last) in ranges.iter() {
        if text.len() > 1 {
            text.push(',');
        }
        write!(text, "[{first},{last}]").expect("a String takes everything");
    }
    text.push('}');
    text
}

/// Postgres prints ranges of integers half open, ascending and apart.
pub(super) fn parse_multirange(text: &str) -> Option<Ranges> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut ranges = Ranges::default();
    let mut above = None;
    for range in inner
        .split_inclusive(')')
        .map(|range| range.trim_start_matches(','))
    {
        let (first, end) = range
            .strip_prefix('[')?
            .strip_suffix(')')?
            .split_once(',')?;
        let (first, end): (u64, u64) = (first.parse().ok()?, end.parse().ok()?);
        if first >= end || above.is_some_and(|above| first <= above) {
            return None;
        }
        above = Some(end - 1);
        ranges.push(Sequence(first), Sequence(end - 1));
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multirange_is_read_as_postgres_prints_it() {
        let mut ranges = Ranges::default();
        assert_eq!(multirange(&ranges), "{}");
        assert_eq!(parse_multirange("{}"), Some(ranges.clone()));

        ranges.push(Sequence(3), Sequence(5));
        ranges.push(Sequence(9), Sequence(9));
        assert_eq!(multirange(&ranges), "{[3,5],[9,9]}");
        assert_eq!(parse_multirange("{[3,6),[9,10)}"), Some(ranges));
    }

    #[test]
    fn what_is_no_bounded_multirange_is_refused() {
        for text in [
            "",
            "{",
            "{(,5)}",
            "{[1,)}",
            "{[-5,3)}",
            "{[5,3)}",
            "{[1,3),[2,4)}",
            "{x}",
        ] {
            assert_eq!(parse_multirange(text), None, "{text}");
        }
    }
}
