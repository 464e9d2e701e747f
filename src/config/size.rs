//! Sizes in bytes: `1024000000`, `100KB`, `1GiB`, `5m`.

use std::str::FromStr;

use super::error::Error;

/// Bytes. Signed, because a flag may say `-1` and the refusal quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub i64);

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map(Self).ok_or_else(|| {
            Error::new(format!(
                "should be a size, got '{text}'; write bytes, or a number with KB, MB, GB or TB"
            ))
        })
    }
}

fn parse(text: &str) -> Option<i64> {
    let digits_end = text
        .char_indices()
        .find(|(index, c)| !(c.is_ascii_digit() || (*index == 0 && *c == '-')))
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at(digits_end);
    number.parse::<i64>().ok()?.checked_mul(multiplier(suffix)?)
}

/// One letter counts in thousands, the longer forms in 1,024s, as NATS has it.
fn multiplier(suffix: &str) -> Option<i64> {
    let suffix = suffix.to_ascii_lowercase();
    let Some(letter) = suffix.chars().next() else {
        return Some(1);
    };
    let power = u32::try_from("kmgtpe".find(letter)?).ok()? + 1;
    match &suffix[1..] {
        "" => Some(1000_i64.pow(power)),
        "b" | "i" | "ib" => Some(1024_i64.pow(power)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acceptance: 167.
    #[test]
    fn sizes_count_as_nats_counts_them() {
        let cases = [
            ("0", 0),
            ("-1", -1),
            ("1024000000", 1_024_000_000),
            ("100KB", 102_400),
            ("100kb", 102_400),
            ("1k", 1000),
            ("1Ki", 1024),
            ("5MiB", 5 << 20),
            ("1GB", 1 << 30),
            ("2t", 2_000_000_000_000),
            ("1EB", 1 << 60),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    /// Acceptance: 167.
    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for text in [
            "", "KB", "1XB", "1B", "1.5MB", "1 KB", "8EB", "--1", "1KBB", "1é",
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("should be a size, got '{text}'")),
                "{error}"
            );
        }
    }
}
