//! The password file of libpq: lines of `host:port:database:user:password`. Of those that fit
//! libpq takes the first; here the next one is tried where Postgres does not accept it.
//! Source: <https://www.postgresql.org/docs/current/libpq-pgpass.html>.

/// Postgres may delay a login after a wrong one.
const PASSWORDS_MAX: usize = 4;

/// The passwords of the lines that fit, in their order: while one is being replaced, the old and the new one.
pub(super) fn find(text: &str, wanted: [&str; 4]) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fitting = lines
        .filter_map(fields)
        .filter_map(|[place @ .., password]| {
            let fits = place
                .iter()
                .zip(wanted)
                .all(|(field, wanted)| field.fits(wanted));
            fits.then_some(password.text)
        });
    fitting.take(PASSWORDS_MAX).collect()
}

struct Field {
    text: String,
    /// Stands for everything, which an escaped `*` does not.
    is_wildcard: bool,
}

impl Field {
    fn fits(&self, wanted: &str) -> bool {
        self.is_wildcard || self.text == wanted
    }
}

/// `None` for a line that has too few of them. A password may contain colons as they are.
fn fields(line: &str) -> Option<[Field; 5]> {
    let mut rest = line;
    let mut next = |is_last: bool| {
        let mut text = String::new();
        let mut characters = rest.char_indices();
        let mut end = None;
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                ':' if !is_last => {
                    end = Some(at);
                    break;
                }
                c => text.push(c),
            }
        }
        let raw = end.map_or(rest, |end| &rest[..end]);
        let is_wildcard = raw == "*" && !is_last;
        if !is_last {
            rest = &rest[end? + 1..];
        }
        Some(Field { text, is_wildcard })
    };
    Some([
        next(false)?,
        next(false)?,
        next(false)?,
        next(false)?,
        next(true)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [&str; 4] = ["db.example", "5432", "stan", "stanby"];

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        for (text, password) in [
            ("db.example:5432:stan:stanby:secret", Some("secret")),
            ("*:*:*:*:secret\n*:*:*:stanby:later", Some("secret")),
            (
                "db.example:5433:*:*:other\n*:*:*:stanby:secret\n",
                Some("secret"),
            ),
            (
                "# db.example:5432:stan:stanby:no\r\n*:*:stan:stanby:secret\r\n",
                Some("secret"),
            ),
            (
                r"*:*:*:*:with\:colon\\and:more",
                Some(r"with:colon\and:more"),
            ),
            (r"\*:*:*:*:literal", None),
            ("*:*:*:*", None),
            ("secret", None),
            ("", None),
        ] {
            let found = find(text, WANTED);
            assert_eq!(found.first().map(String::as_str), password, "{text}");
        }
    }

    #[test]
    fn what_is_escaped_is_part_of_a_name() {
        let wanted = ["fe80::1", "5432", "stan", "stanby"];
        let found = find(r"fe80\:\:1:5432:stan:stanby:secret", wanted);
        assert_eq!(found, ["secret"]);
        let two = "*:*:*:*:old\nelse:*:*:*:no\n*:*:*:*:new\n";
        assert_eq!(find(two, WANTED), ["old", "new"]);
    }
}
