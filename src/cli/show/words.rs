//! Amounts, times and names in few letters.

use crate::cli::output;

/// Names were chosen by clients.
pub(in crate::cli) fn shown(text: &str) -> String {
    output::name_from_outside(text)
}

pub(in crate::cli) fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), shown)
}

/// As `0`, `0.4s`, `12s`, `5m03s`, `2h10m`, `3d04h`.
pub(in crate::cli) fn duration(seconds: f64) -> String {
    if seconds < 0.05 {
        return "0".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and a float that is too large saturates"
    )]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// As `512`, `1.4K`, `20M`, in powers of 1,000.
pub(in crate::cli) fn bytes(count: u64) -> String {
    let mut unit = 1;
    for letter in ["", "K", "M", "G", "T", "P"] {
        let tenths = count / (unit / 10).max(1);
        let is_last = letter == "P";
        if unit == 1 && count < 1000 {
            return count.to_string();
        }
        if unit > 1 && (tenths < 10_000 || is_last) {
            return if tenths < 100 {
                format!("{}.{}{letter}", tenths / 10, tenths % 10)
            } else {
                format!("{}{letter}", tenths / 10)
            };
        }
        unit *= 1000;
    }
    count.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_times_stay_short() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0K"),
            (15_400, "15K"),
            (999_999, "999K"),
            (1_500_000, "1.5M"),
            (u64::MAX, "18446P"),
        ] {
            assert_eq!(bytes(count), expected);
        }
        for (seconds, expected) in [
            (0.0, "0"),
            (0.44, "0.4s"),
            (59.4, "59s"),
            (303.0, "5m03s"),
            (7800.0, "2h10m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
