//! Plots of the figures as SVG, beside the JSON of the runs.

use std::fmt::Write;
use std::path::Path;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
/// Of one panel, its title included.
const PANEL: f64 = 150.0;
const BOTTOM: f64 = 30.0;
/// More do not fit below each other.
const LABELS_MAX: usize = 12;

const POINTS_MAX: usize = 60;

/// One panel: a value per label.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) values: Vec<f64>,
}

/// Writes the file: panels below each other over the same labels, each from zero to its highest value.
pub(crate) fn draw(path: &Path, labels: &[String], panels: &[Panel]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, svg(labels, panels))
}

fn svg(labels: &[String], panels: &[Panel]) -> String {
    let height = (panels.iter()).fold(BOTTOM, |height, _| height + PANEL);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut top = 0.0;
    for panel in panels {
        draw_panel(&mut svg, panel, top);
        top += PANEL;
    }
    let step = labels.len().div_ceil(LABELS_MAX).max(1);
    for (label, at) in labels.iter().zip(places(labels.len())).step_by(step) {
        text(&mut svg, at, height - 10.0, "middle", label);
    }
    svg + "</svg>\n"
}

fn draw_panel(svg: &mut String, Panel { title, values }: &Panel, top: f64) {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let (ceiling, floor) = (top + TOP, top + PANEL - 8.0);
    text(svg, LEFT, top + 20.0, "start", title);
    text(svg, LEFT - 8.0, floor, "end", "0");
    text(svg, LEFT - 8.0, ceiling + 4.0, "end", &short(highest));
    for y in [ceiling, floor] {
        let right = WIDTH - RIGHT;
        svg.extend([format!(
            "<path d=\"M{LEFT} {y}H{right}\" stroke=\"#ccc\"/>\n"
        )]);
    }
    let mut path = String::new();
    // Where there are many, the line shows them.
    let radius = if values.len() > POINTS_MAX { 0.8 } else { 2.5 };
    for (value, x) in values.iter().zip(places(values.len())) {
        let share = if highest > 0.0 { value / highest } else { 0.0 };
        let y = floor - (floor - ceiling) * share;
        let pen = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{pen}{x:.1} {y:.1}").expect("a string takes everything");
        svg.extend([format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"#1f5fbf\"/>\n"
        )]);
    }
    svg.extend([format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"#1f5fbf\" stroke-width=\"1.5\"/>\n"
    )]);
}

/// Along the width, from the first label to the last.
fn places(count: usize) -> impl Iterator<Item = f64> {
    let inner = WIDTH - LEFT - RIGHT - 40.0;
    let last = u32::try_from(count.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .max(1);
    (0..)
        .take(count)
        .map(move |number: u32| LEFT + 20.0 + inner * f64::from(number) / f64::from(last))
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    svg.extend([format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
    )]);
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
