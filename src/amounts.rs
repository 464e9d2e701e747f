//! Amounts and lengths of time in few letters, for terminals and pages.

/// As `0`, `0.4s`, `12s`, `5m03s`, `2h10m`, `3d04h`.
pub fn duration(seconds: f64) -> String {
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

/// How long until something happens at the rate of now: as [`duration`], and what is very far away says no more than that.
pub fn until(seconds: f64) -> String {
    const YEAR: f64 = 366.0 * 86_400.0;
    if seconds > YEAR {
        "over a year".to_owned()
    } else {
        duration(seconds)
    }
}

/// As `512`, `1.4K`, `20M`, in powers of 1,000.
pub fn bytes(count: u64) -> String {
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

/// With a comma between thousands: `1,024,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
        for (seconds, expected) in [
            (273_600.0, "3d04h"),
            (31_536_000.0, "365d00h"),
            (3_155_760_000.0, "over a year"),
            (f64::INFINITY, "over a year"),
        ] {
            assert_eq!(until(seconds), expected);
        }
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_024_000, "1,024,000"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }
}
