//! Whole numbers as Go's flags take them: `10`, `0x1f`, `0b11`, `0o17`, `017`, `1_000`.

/// The same in decimal digits; `None` where it is no such number.
pub(super) fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let after = |prefixes: &[&str]| prefixes.iter().find_map(|it| lower.strip_prefix(it));
    let (digits, radix) = if let Some(digits) = after(&["0x"]) {
        (digits, 16)
    } else if let Some(digits) = after(&["0b"]) {
        (digits, 2)
    } else if let Some(digits) = after(&["0o"]) {
        (digits, 8)
    } else if let Some(digits) = after(&["0"]).filter(|digits| !digits.is_empty()) {
        (digits, 8)
    } else {
        (lower.as_str(), 10)
    };
    let parts: Vec<&str> = digits.split('_').collect();
    let is_whole = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_digit(radix));
    // One may stand behind the prefix, and between two digits.
    let (first, rest) = parts.split_first()?;
    let may_lack_first = radix != 10 && first.is_empty() && !rest.is_empty();
    if !(rest.iter().all(is_whole) && (may_lack_first || is_whole(first))) {
        return None;
    }
    let number = u64::from_str_radix(&parts.concat(), radix).ok()?;
    Some(format!("{sign}{number}"))
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers_are_what_go_takes_them_for() {
        for (text, number) in [
            ("0", "0"),
            ("-1", "-1"),
            ("+5", "5"),
            ("1_000_000", "1000000"),
            ("0xEDB88320", "3988292384"),
            ("0Xff", "255"),
            ("0x_ff", "255"),
            ("0b101", "5"),
            ("0o17", "15"),
            ("017", "15"),
            ("0_17", "15"),
            ("-0x10", "-16"),
        ] {
            assert_eq!(decimal(text).as_deref(), Some(number), "{text}");
        }
        for text in [
            "", "-", "x", "08", "0x", "0xg", "_1", "1_", "1__0", "0__1", "1k", "1.5", " 1", "--1",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
