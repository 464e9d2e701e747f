//! Plots as SVG text. They take their colours from the page, so that they fit its light and its dark form.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 16.0;
const HEIGHT: f64 = 300.0;
const BOTTOM: f64 = 40.0;

const BAR: f64 = 20.0;
const ROW: f64 = 30.0;
/// The width of the names beside rows of bars.
const NAMES: f64 = 250.0;

/// Colours that the page defines.
pub(super) const COLOURS: usize = 8;

/// One curve; its points are in the axes' units.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// Where on the axis a number is, from 0 to 1, and which numbers are written.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) title: &'static str,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 in round steps.
    pub(super) fn linear(title: &'static str, max: f64) -> Self {
        let step = round_step(max / 5.0);
        let marks = (0..=100)
            .map(|number| f64::from(number) * step)
            .take_while(|mark| *mark <= max * 1.0001)
            .map(|mark| (mark, short(mark)));
        Self {
            title,
            from: 0.0,
            to: max.max(f64::MIN_POSITIVE),
            marks: marks.collect(),
        }
    }

    /// An axis of decimal logarithms, with `name` for each power of ten.
    pub(super) fn logarithmic(
        title: &'static str,
        min: f64,
        max: f64,
        name: impl Fn(f64) -> String,
    ) -> Self {
        let (from, to) = (min.floor(), max.ceil().max(min.floor() + 1.0));
        let marks = (0..40)
            .map(|number| from + f64::from(number))
            .take_while(|mark| *mark <= to)
            .map(|mark| (mark, name(10_f64.powf(mark))));
        Self {
            title,
            from,
            to,
            marks: marks.collect(),
        }
    }

    fn place(&self, number: f64) -> f64 {
        ((number - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

pub(super) fn curves(x: &Axis, y: &Axis, curves: &[Curve]) -> String {
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let at_x = |number: f64| LEFT + x.place(number) * width;
    let at_y = |number: f64| TOP + (1.0 - y.place(number)) * height;
    let mut svg = open(HEIGHT);
    for (mark, name) in &x.marks {
        let (at, bottom) = (at_x(*mark), TOP + height);
        put(
            &mut svg,
            format_args!(
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                escaped(name)
            ),
        );
    }
    for (mark, name) in &y.marks {
        let at = at_y(*mark);
        put(
            &mut svg,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT + width,
                LEFT - 6.0,
                at + 4.0,
                escaped(name)
            ),
        );
    }
    for curve in curves {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y)))
            .collect();
        put(
            &mut svg,
            format_args!(
                "<polyline class=\"c{}\" points=\"{}\"><title>{}</title></polyline>",
                curve.colour % COLOURS,
                points.join(" "),
                escaped(&curve.name)
            ),
        );
    }
    put(
        &mut svg,
        format_args!(
            "<text class=\"title\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text class=\"title\" x=\"4\" y=\"{}\">{}</text></svg>",
            LEFT + width,
            HEIGHT - 6.0,
            escaped(x.title),
            TOP - 4.0,
            escaped(y.title)
        ),
    );
    svg + &legend(
        curves
            .iter()
            .map(|curve| (curve.colour, curve.name.as_str())),
    )
}

/// A bar of parts one after the other, with what is written beside it, and a mark to compare it with.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<(usize, f64, String)>,
    pub(super) note: String,
    pub(super) mark: Option<(f64, String)>,
}

pub(super) fn bars(bars: &[Bar]) -> String {
    let total = |bar: &Bar| bar.parts.iter().map(|(_, part, _)| part).sum::<f64>();
    let longest = bars
        .iter()
        .map(|bar| total(bar).max(bar.mark.as_ref().map_or(0.0, |(mark, _)| *mark)))
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - NAMES - 130.0) / longest;
    let mut svg = open(rows(bars.len()));
    for (number, bar) in bars.iter().enumerate() {
        let top = rows(number) + 5.0;
        let middle = top + BAR / 2.0 + 4.0;
        put(
            &mut svg,
            format_args!(
                "<text x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
                NAMES - 8.0,
                escaped(&bar.name)
            ),
        );
        let mut begin = NAMES;
        for (colour, part, what) in &bar.parts {
            let width = (part * scale).max(0.5);
            put(
                &mut svg,
                format_args!(
                    "<rect class=\"b{}\" x=\"{begin:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\">\
                     <title>{}</title></rect>",
                    colour % COLOURS,
                    escaped(what)
                ),
            );
            begin += width;
        }
        if let Some((mark, what)) = &bar.mark {
            let at = NAMES + mark * scale;
            put(
                &mut svg,
                format_args!(
                    "<line class=\"mark\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\">\
                     <title>{}</title></line>",
                    top - 3.0,
                    top + BAR + 3.0,
                    escaped(what)
                ),
            );
            begin = begin.max(at);
        }
        put(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
                begin + 8.0,
                escaped(&bar.note)
            ),
        );
    }
    svg + "</svg>"
}

/// Which colour is what.
pub(super) fn legend<'a>(names: impl Iterator<Item = (usize, &'a str)>) -> String {
    let mut text = String::from("<p class=\"legend\">");
    for (colour, name) in names {
        put(
            &mut text,
            format_args!(
                "<span><i class=\"b{}\"></i>{}</span> ",
                colour % COLOURS,
                escaped(name)
            ),
        );
    }
    text + "</p>"
}

/// Text from a file must not become a part of the page.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// `12.3k` for 12,345.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e4 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let text = if scaled >= 100.0 || scaled.fract().abs() < 1e-9 {
        format!("{scaled:.0}")
    } else if scaled >= 1.0 {
        format!("{scaled:.1}")
    } else {
        format!("{scaled:.2}")
    };
    text + unit
}

fn open(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")
}

fn rows(count: usize) -> f64 {
    (0..count).fold(0.0, |height, _| height + ROW)
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let wide_enough = steps.into_iter().find(|candidate| *candidate >= step);
    wide_enough.unwrap_or(step)
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        let curve = Curve {
            name: "<script>\"&\n".to_owned(),
            colour: 0,
            points: vec![(0.0, 0.0), (1.0, f64::INFINITY)],
        };
        let axis = || Axis::linear("", 1.0);

        let svg = curves(&axis(), &axis(), &[curve]);

        assert!(svg.contains("&lt;script&gt;&quot;&amp; "), "{svg}");
        assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn marks_stand_at_round_numbers() {
        let names = |axis: Axis| {
            axis.marks
                .into_iter()
                .map(|(_, name)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(Axis::linear("", 87_000.0)),
            ["0", "20k", "40k", "60k", "80k"]
        );
        assert_eq!(
            names(Axis::logarithmic("", 1.2, 2.5, short)),
            ["10", "100", "1000"]
        );
        assert_eq!(
            names(Axis::linear("", 0.0)).first().map(String::as_str),
            Some("0")
        );
    }
}
