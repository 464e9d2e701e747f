//! Plots that need no script: lines and bars as SVG, without a style of their own.

use std::fmt::Write as _;

use maud::{Markup, html};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;

/// Each from zero to the largest.
pub(super) fn bars(values: &[f64], description: &str) -> Markup {
    let most = values
        .iter()
        .copied()
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let count = u32::try_from(values.len().max(1)).unwrap_or(u32::MAX);
    let width = WIDTH / f64::from(count);
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(description) {
            @for (index, value) in (0_u32..).zip(values) {
                @let height = value / most * (HEIGHT - 4.0);
                rect x=(format!("{:.1}", f64::from(index) * width + width * 0.1)) y=(format!("{:.1}", HEIGHT - height))
                    width=(format!("{:.1}", width * 0.8)) height=(format!("{height:.1}")) {}
            }
        }
    }
}

/// A line for each list, all on one scale; where there is no value it is broken.
pub(super) fn lines(all: &[(&str, &[Option<f64>])], description: &str) -> Markup {
    let values = all.iter().flat_map(|(_, values)| values.iter().flatten());
    let most = values.copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(description) {
            @for (class, values) in all {
                path.(class) d=(path(values, most)) {}
            }
        }
    }
}

fn path(values: &[Option<f64>], most: f64) -> String {
    let steps = u32::try_from(values.len().saturating_sub(1).max(1)).unwrap_or(u32::MAX);
    let mut path = String::new();
    let mut is_drawing = false;
    for (index, value) in (0_u32..).zip(values) {
        let Some(value) = value else {
            is_drawing = false;
            continue;
        };
        let x = f64::from(index) * WIDTH / f64::from(steps);
        let y = HEIGHT - 2.0 - value / most * (HEIGHT - 4.0);
        let letter = if is_drawing { 'L' } else { 'M' };
        write!(path, "{letter}{x:.1} {y:.1}").expect("a String takes everything");
        is_drawing = true;
    }
    if path.is_empty() {
        "M0 0".to_owned()
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_breaks_where_nothing_is_known_and_ends_at_the_edge() {
        let path = path(&[Some(0.0), Some(10.0), None, Some(5.0)], 10.0);
        assert_eq!(path, "M0.0 198.0L333.3 2.0M1000.0 100.0");
        assert!(
            lines(&[("one", &[])], "nothing")
                .into_string()
                .contains("M0 0")
        );
    }
}
