//! Durations as Go writes them: `30s`, `1h30m`, `100ms`, `-1s`, `0`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::error::Error;

const NANOSECOND: i128 = 1;
const MICROSECOND: i128 = 1_000 * NANOSECOND;
const MILLISECOND: i128 = 1_000 * MICROSECOND;
const SECOND: i128 = 1_000 * MILLISECOND;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;

/// Signed, because a flag may say `-1s` and the refusal quotes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration {
    nanos: i64,
}

impl GoDuration {
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The duration without its sign's meaning: a negative one is zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self {
            nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl FromStr for GoDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map(|nanos| Self { nanos }).ok_or_else(|| {
            Error::new(format!(
                "{text:?} is not a duration; write it like 30s, 1h30m or 100ms"
            ))
        })
    }
}

fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        total = total.checked_add(part(number, unit_nanos(unit)?)?)?;
        rest = tail;
    }
    i64::try_from(sign * total).ok()
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => NANOSECOND,
        "us" | "µs" | "μs" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

/// `number` units, with digits after the point cut off below a nanosecond.
fn part(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // An hour has 13 digits of nanoseconds: what comes after them cannot matter.
    let digits = &fraction[..fraction.len().min(13)];
    let fraction: i128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let scale = 10_i128.pow(u32::try_from(digits.len()).ok()?);
    whole
        .checked_mul(unit)?
        .checked_add(fraction * unit / scale)
}

/// The way Go prints it: `1h30m0s`, `1.5s`, `100ms`, `0s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.nanos).abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => return f.write_str("0s"),
            n if n < MICROSECOND => return write!(f, "{n}ns"),
            n if n < MILLISECOND => return write!(f, "{}µs", decimal(n, MICROSECOND)),
            n if n < SECOND => return write!(f, "{}ms", decimal(n, MILLISECOND)),
            _ => {}
        }
        let (hours, minutes) = (nanos / HOUR, nanos / MINUTE % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % MINUTE, SECOND))
    }
}

fn decimal(nanos: i128, unit: i128) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read_and_printed_as_go_does() {
        let cases: [(&str, i128, &str); 14] = [
            ("0", 0, "0s"),
            ("30s", 30 * SECOND, "30s"),
            ("1h30m", 90 * MINUTE, "1h30m0s"),
            ("100ms", 100 * MILLISECOND, "100ms"),
            ("1.5h", 90 * MINUTE, "1h30m0s"),
            (".5s", SECOND / 2, "500ms"),
            ("1.s", SECOND, "1s"),
            ("2m0.25s", 2 * MINUTE + SECOND / 4, "2m0.25s"),
            ("10us", 10 * MICROSECOND, "10µs"),
            ("7µs", 7 * MICROSECOND, "7µs"),
            ("15ns", 15, "15ns"),
            ("-1s", -SECOND, "-1s"),
            ("+24h", 24 * HOUR, "24h0m0s"),
            ("1.00000000000000000001s", SECOND, "1s"),
        ];
        for (text, nanos, printed) in cases {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(i128::from(duration.nanos), nanos, "{text}");
            assert_eq!(duration.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_go_duration_is_refused_with_an_example() {
        for text in [
            "", "-", "30", "s", "1d", "1 s", "1..2s", ".s", "1h30", "9999999h", "٣s", "1e3s",
        ] {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains("write it like 30s"), "{text}: {error}");
        }
    }
}
