//! Text that must not be seen: passwords, tokens, and URLs that may hold one.

use std::fmt;

const REDACTED: &str = "[REDACTED]";

/// Shows itself as `[REDACTED]`; whoever needs the text says [`Secret::expose`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The URL fit for a log: without what stands before `@` in a server's place and without its query, which may
/// carry a password too. Works on text that is no URL as well, because that is what an error message quotes.
pub fn redact_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, format!("?{REDACTED}")),
        None => (rest, String::new()),
    };
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}{REDACTED}@{place}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "[REDACTED]");
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_a_password() {
        let cases = [
            ("nats://host:4222", "nats://host:4222"),
            ("nats://u:p@host:4222", "nats://[REDACTED]@host:4222"),
            ("nats://token@host", "nats://[REDACTED]@host"),
            (
                "postgres://u:p@ss@h/db?password=x",
                "postgres://[REDACTED]@h/db?[REDACTED]",
            ),
            ("u:p@host:4222", "[REDACTED]@host:4222"),
            ("127.0.0.1", "127.0.0.1"),
        ];
        for (url, shown) in cases {
            assert_eq!(redact_url(url), shown);
        }
    }
}
