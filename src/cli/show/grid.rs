//! Tables that fit the terminal: columns stand as narrow as they can, and where a line is too long the text columns are cut.

use std::io::{self, IsTerminal as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Where it is not known how wide the screen is.
const WIDTH: usize = 80;

/// Narrower than this no column is cut, but where a line would be too long otherwise.
const CUT_MIN: usize = 6;
const CUT_MIN_WHERE_MANY: usize = 3;

const GAP: usize = 2;

/// Where facts begin.
const FACT: usize = "sequences  ".len();

#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Column {
    title: &'static str,
    is_number: bool,
    may_be_cut: bool,
}

impl Column {
    /// To the right, and never cut.
    pub(in crate::cli) const fn number(title: &'static str) -> Self {
        Self {
            title,
            is_number: true,
            may_be_cut: false,
        }
    }

    /// Never cut.
    pub(in crate::cli) const fn word(title: &'static str) -> Self {
        Self {
            title,
            is_number: false,
            may_be_cut: false,
        }
    }

    /// Cut where the line is too long.
    pub(in crate::cli) const fn text(title: &'static str) -> Self {
        Self {
            title,
            is_number: false,
            may_be_cut: true,
        }
    }
}

/// A header and rows.
#[derive(Debug)]
pub(in crate::cli) struct Grid<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Grid<N> {
    pub(in crate::cli) fn new(
        columns: [Column; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> Self {
        Self {
            columns,
            rows: rows.collect(),
        }
    }

    /// Lines of up to `width` columns.
    pub(in crate::cli) fn text(&self, width: usize) -> String {
        let widths = self.widths(width);
        let titles = self.columns.map(|column| column.title.to_owned());
        let rows = std::iter::once(&titles).chain(&self.rows);
        let lines = rows.map(|row| self.line(row, &widths));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn widths(&self, width: usize) -> [usize; N] {
        let mut widths = std::array::from_fn(|index| {
            let cells = self.rows.iter().map(|row| row[index].width());
            cells
                .max()
                .unwrap_or(0)
                .max(self.columns[index].title.width())
        });
        let room = width.saturating_sub(GAP * N.saturating_sub(1));
        for least in [CUT_MIN, CUT_MIN_WHERE_MANY] {
            while widths.iter().sum::<usize>() > room {
                // The longest text loses first.
                let is_cut =
                    |index: &usize| self.columns[*index].may_be_cut && widths[*index] > least;
                let Some(index) = (0..N).filter(is_cut).max_by_key(|index| widths[*index]) else {
                    break;
                };
                widths[index] -= 1;
            }
        }
        widths
    }

    fn line(&self, row: &[String; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let cell = cut(cell, widths[index]);
            let padding = " ".repeat(widths[index].saturating_sub(cell.width()));
            if self.columns[index].is_number {
                line.push_str(&padding);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.push_str(&padding);
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.trim_end().to_owned()
    }
}

/// Up to `width` columns of the text, with a mark where something is missing.
pub(in crate::cli) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// A line for people over several where it is longer than their screen, all but the first begun with so many spaces. In a
/// pipe it stays one, for programs that look for lines.
pub(in crate::cli) fn wrapped(line: &str, indent: usize) -> String {
    let is_for_people = io::stdout().is_terminal() || std::env::var_os("COLUMNS").is_some();
    if is_for_people {
        wrapped_to(line, indent, width())
    } else {
        line.to_owned()
    }
}

/// Lines that begin with what they say, as `lag        7 messages`.
pub(in crate::cli) fn facts(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| wrapped(line, FACT));
    lines.collect::<Vec<_>>().join("\n")
}

fn wrapped_to(line: &str, indent: usize, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.last_mut().expect("there is one from the beginning");
        if last.width() + 1 + word.width() > width && last.width() > indent {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            if !last.is_empty() || word.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}

/// How wide lines may be.
pub(in crate::cli) fn width() -> usize {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let columns = columns.filter(|width| *width >= 40);
    if let Some(width) = columns {
        return width;
    }
    if io::stdout().is_terminal()
        && let Ok((width, _)) = crossterm::terminal::size()
        && width >= 40
    {
        return width.into();
    }
    WIDTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_itself() {
        let line = "active    one two three four five six seven";
        let text = wrapped_to(line, 10, 24);
        assert_eq!(
            text,
            "active    one two three\n          four five six\n          seven"
        );
        assert_eq!(wrapped_to("short", 10, 24), "short");
    }

    #[test]
    fn a_table_fits_the_width_and_keeps_its_numbers_whole() {
        let columns = [
            Column::text("CHANNEL"),
            Column::number("LAG"),
            Column::text("WHY"),
        ];
        let rows = [
            [
                "a".repeat(200),
                "123456789".to_owned(),
                "waits for acks: 64 of 64 allowed are unacked".to_owned(),
            ],
            [
                "日本語".repeat(30),
                "1".to_owned(),
                "everything is sent".to_owned(),
            ],
        ];
        let grid = Grid::new(columns, rows.into_iter());

        for width in [40, 80, 200] {
            let text = grid.text(width);
            assert!(text.lines().all(|line| line.width() <= width), "{text}");
            assert!(text.contains("123456789") && text.contains('…'), "{text}");
        }
        assert_eq!(grid.text(1000).matches('…').count(), 0);
    }
}
