//! JSON with lines, for people: only what stands between values changes. Numbers keep all of their digits, and names their order,
//! which they would not if it were read and written again.

use super::payload::SHOWN_BYTES;

/// Further levels stand no further in.
const LEVELS_MAX: usize = 32;

/// Indents what is taken for JSON without a check. `None`: it would be more than a page shows.
pub(super) fn pretty(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() * 2);
    let mut level = 0_usize;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if out.len() > SHOWN_BYTES {
            return None;
        }
        match letter {
            '"' => {
                out.push('"');
                let mut is_escaped = false;
                for letter in letters.by_ref() {
                    out.push(letter);
                    if letter == '"' && !is_escaped {
                        break;
                    }
                    is_escaped = letter == '\\' && !is_escaped;
                }
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = letters.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    level += 1;
                    line(&mut out, level);
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                line(&mut out, level);
                out.push(letter);
            }
            ',' => {
                out.push(',');
                line(&mut out, level);
            }
            ':' => out.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => out.push(letter),
        }
    }
    Some(out)
}

fn line(out: &mut String, level: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", level.min(LEVELS_MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_json_is_as_it_was_sent() {
        let text = r#"{"b":12345678901234567890123,"a":[0.1000000000000000055, {"x":"a\\\"{,:[ b"}],"a":[],"e":{ }}"#;
        assert_eq!(
            pretty(text).unwrap(),
            r#"{
  "b": 12345678901234567890123,
  "a": [
    0.1000000000000000055,
    {
      "x": "a\\\"{,:[ b"
    }
  ],
  "a": [],
  "e": {}
}"#
        );
        let deep = "[".repeat(3000) + &"]".repeat(3000);
        assert_eq!(
            pretty(&deep),
            None,
            "a page does not grow with how deep it is"
        );
        assert_eq!(pretty(&format!("[{}1]", "1,".repeat(40_000))), None);
    }
}
