//! Words without quotes: numbers with their suffixes, booleans, times, and what is none of these.

use super::value::Kind;

/// What a word stands for. A number that does not fit is an error, everything odd is text.
pub(super) fn classify(word: &str) -> Result<Kind, &'static str> {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "true" | "yes" | "on" => return Ok(Kind::Boolean(true)),
        "false" | "no" | "off" => return Ok(Kind::Boolean(false)),
        _ => {}
    }
    if is_time(word) {
        return Ok(Kind::Time(word.to_owned()));
    }
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let digits_end = unsigned
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(unsigned.len());
    if digits_end == 0 {
        return Ok(Kind::Text(word.to_owned()));
    }
    let (digits, rest) = unsigned.split_at(digits_end);
    if let Some(power) = multiplier(rest) {
        let sign = if word.starts_with('-') { -1 } else { 1 };
        let number = digits.parse::<i64>().ok();
        let number = number.and_then(|number| number.checked_mul(power)?.checked_mul(sign));
        return number
            .map(|number| Kind::Integer(number, word.to_owned()))
            .ok_or("the number is too large");
    }
    let is_fraction = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match rest.strip_prefix('.') {
        Some(fraction) if is_fraction(fraction) => Ok(word
            .parse()
            .map_or_else(|_| Kind::Text(word.to_owned()), Kind::Float)),
        Some(_) | None => Ok(Kind::Text(word.to_owned())),
    }
}

/// One letter counts in thousands, with `b` or `i` behind it in 1,024s.
fn multiplier(suffix: &str) -> Option<i64> {
    let suffix = suffix.to_ascii_lowercase();
    let mut letters = suffix.chars();
    let Some(letter) = letters.next() else {
        return Some(1);
    };
    let power = u32::try_from("kmgtpe".find(letter)?).ok()? + 1;
    match letters.as_str() {
        "" => Some(1000_i64.pow(power)),
        "b" | "i" | "ib" => Some(1024_i64.pow(power)),
        _ => None,
    }
}

/// `2006-01-02T15:04:05Z`.
fn is_time(word: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:ddZ";
    word.len() == shape.len()
        && word.bytes().zip(shape.bytes()).all(|(b, s)| match s {
            b'd' => b.is_ascii_digit(),
            s => b == s,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_nats_takes_them_for() {
        let text = |word: &str| Kind::Text(word.to_owned());
        let integer = |number, word: &str| Kind::Integer(number, word.to_owned());
        let cases = [
            ("yes", Kind::Boolean(true)),
            ("OFF", Kind::Boolean(false)),
            ("10", integer(10, "10")),
            ("-3", integer(-3, "-3")),
            ("1k", integer(1000, "1k")),
            ("1KB", integer(1024, "1KB")),
            ("2Gib", integer(2 << 30, "2Gib")),
            ("10m", integer(10_000_000, "10m")),
            ("1.5", Kind::Float(1.5)),
            ("30s", text("30s")),
            ("1h30m", text("1h30m")),
            ("127.0.0.1:4222", text("127.0.0.1:4222")),
            ("12abc", text("12abc")),
            ("-", text("-")),
            ("nats://h:1", text("nats://h:1")),
            (
                "2016-05-04T18:53:41Z",
                Kind::Time("2016-05-04T18:53:41Z".to_owned()),
            ),
        ];
        for (word, kind) in cases {
            assert_eq!(classify(word), Ok(kind), "{word}");
        }
        assert!(classify("99999999999999999999").is_err());
        assert!(classify("9999999999g").is_err());
    }
}
