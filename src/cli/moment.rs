//! Moments as people name them: `90s`, `1h30m`, `7 days`, `14:00`, `2026-11-29`, `2026-11-29T14:00:00Z`. Every command that takes one
//! reads it here, so that a time without a zone is local in all of them.

use std::str::FromStr;

use anyhow::anyhow;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use serde::{Serialize, Serializer};

/// A point in time, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(Timestamp);

impl Moment {
    /// Nanoseconds since 1970.
    pub(super) fn nanoseconds(self) -> i64 {
        i64::try_from(self.0.as_nanosecond()).unwrap_or(i64::MAX)
    }

    pub(super) fn is_to_come(self) -> bool {
        self.0 > Timestamp::now()
    }

    /// How long ago it is, in nanoseconds; 0 for one to come.
    pub(super) fn ago(self) -> i64 {
        let ago = Timestamp::now().as_nanosecond() - self.0.as_nanosecond();
        i64::try_from(ago.max(0)).unwrap_or(i64::MAX)
    }
}

/// As requests carry it to the active: Postgres keeps microseconds.
impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = Timestamp::from_microsecond(self.0.as_microsecond());
        serializer.collect_str(&micros.unwrap_or(self.0))
    }
}

impl FromStr for Moment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        parse(text.trim(), &Zoned::now()).map(Self).ok_or_else(|| {
            anyhow!(
                "{text:?} is no time; write how long ago it was (90s, 90 min, 1h30m, 7 days, 2w), a time of this day (14:00), or a \
                 date and time (2026-11-29T14:00:00Z; without a zone it is local)"
            )
        })
    }
}

fn parse(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Some(ago) = ago(text) {
        return now.timestamp().checked_sub(ago).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    // The parsers of jiff take parts of a longer text.
    let zone = || now.time_zone().clone();
    if text.contains('-') {
        if text.len() > "2026-11-29".len() {
            return local(text.parse::<DateTime>().ok()?, zone());
        }
        return local(text.parse::<Date>().ok()?.at(0, 0, 0, 0), zone());
    }
    let today = now.date().to_datetime(text.parse::<Time>().ok()?);
    let time = local(today, zone())?;
    if time > now.timestamp() {
        let yesterday = today.checked_sub(1.day()).ok()?;
        return local(yesterday, zone());
    }
    Some(time)
}

fn local(time: DateTime, zone: TimeZone) -> Option<Timestamp> {
    Some(time.to_zoned(zone).ok()?.timestamp())
}

/// Numbers with their units, one after the other, with spaces or without: `90 min`, `1h30m`, `1 day 12 hours`.
fn ago(text: &str) -> Option<SignedDuration> {
    let mut rest = text.strip_suffix("ago").unwrap_or(text).trim_end();
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let tail = tail.trim_start();
        let unit_end = tail.find(|c: char| !c.is_alphabetic());
        let (unit, tail) = tail.split_at(unit_end.unwrap_or(tail.len()));
        let number: f64 = number.parse().ok()?;
        seconds += number * unit_seconds(unit)?;
        rest = tail.trim_start();
    }
    SignedDuration::try_from_secs_f64(seconds).ok()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        "w" | "week" | "weeks" => 7.0 * 86400.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_named_as_people_do() {
        let now: Zoned = "2026-11-29T12:00:00+01:00[+01:00]".parse().unwrap();
        for (text, expected) in [
            ("90s", "2026-11-29T10:58:30Z"),
            ("2h30m", "2026-11-29T08:30:00Z"),
            ("1d", "2026-11-28T11:00:00Z"),
            ("2w ago", "2026-11-15T11:00:00Z"),
            ("90 min", "2026-11-29T09:30:00Z"),
            ("7 days", "2026-11-22T11:00:00Z"),
            ("7 days ago", "2026-11-22T11:00:00Z"),
            ("1h30m", "2026-11-29T09:30:00Z"),
            ("1 day 12 hours", "2026-11-27T23:00:00Z"),
            ("1.5d", "2026-11-27T23:00:00Z"),
            ("250ms", "2026-11-29T10:59:59.75Z"),
            ("0", "2026-11-29T11:00:00Z"),
            ("11:00", "2026-11-29T10:00:00Z"),
            // It has not been yet: yesterday's.
            ("14:00", "2026-11-28T13:00:00Z"),
            ("11:59:59.5", "2026-11-29T10:59:59.5Z"),
            ("2026-11-29", "2026-11-28T23:00:00Z"),
            ("2026-11-29 10:30", "2026-11-29T09:30:00Z"),
            ("2026-11-29T10:30:00", "2026-11-29T09:30:00Z"),
            ("2026-11-29T10:30:00Z", "2026-11-29T10:30:00Z"),
            (
                "2026-11-29T10:30:00.123456789+02:00",
                "2026-11-29T08:30:00.123456789Z",
            ),
            ("2026-07-01", "2026-06-30T23:00:00Z"),
        ] {
            let found = parse(text, &now).map(|time| time.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_would_be() {
        for text in [
            "",
            "soon",
            "-1h",
            "-1d",
            "25:00",
            "1.5.2d",
            "7",
            "7 fortnights",
            "min",
            "ago",
            "1h 30",
            "2026-13-01",
            "99999999999999d",
            "d",
        ] {
            let refusal = text.parse::<Moment>().unwrap_err().to_string();
            assert!(refusal.contains("14:00"), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_request_carries_the_moment_that_was_meant_when_the_command_was_given() {
        let moment: Moment = "2026-11-29T10:30:00.123456789+02:00".parse().unwrap();
        let carried = serde_json::to_value(moment).unwrap();
        assert_eq!(carried, "2026-11-29T08:30:00.123456Z");
    }
}
