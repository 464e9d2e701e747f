//! Who may log in, and what they may do: the lines of a file, which is read for each request, so that a line that is taken
//! out ends what its user is logged in to. Without such a file whoever has the token of the API may do everything.

use std::fmt;
use std::path::PathBuf;

use super::password::Hashed;
use crate::http::api::token::{TOKEN_BYTES_MIN, is_same};

const FILE_BYTES_MAX: u64 = 256 << 10;

/// Who logs in with the token of the API.
const TOKEN_USER: &str = "token";

/// Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees everything but what stands in messages.
    Reader,
    /// Sees what stands in messages, too.
    Payloads,
    /// Changes things.
    Operator,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Reader, Self::Payloads, Self::Operator];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Payloads => "payload-reader",
            Self::Operator => "operator",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }
}

/// Where users are told.
#[derive(Clone, Debug)]
pub(super) enum Users {
    File(PathBuf),
    TokenFile(PathBuf),
}

#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) role: Role,
    credential: Credential,
}

#[derive(Clone)]
enum Credential {
    Password(Hashed),
    Token(String),
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.role.name())
    }
}

impl User {
    /// Takes a moment.
    pub(super) fn is(&self, password: &str) -> bool {
        match &self.credential {
            Credential::Password(hashed) => hashed.is(password),
            Credential::Token(token) => is_same(token.as_bytes(), password.trim().as_bytes()),
        }
    }

    /// Another one after another password: what somebody is logged in to ends with it.
    pub(super) fn mark(&self) -> String {
        match &self.credential {
            Credential::Password(hashed) => hashed.to_string(),
            Credential::Token(token) => token.clone(),
        }
    }
}

/// Why nobody can log in; a sentence with the remedy.
pub(super) type UsersError = String;

impl Users {
    pub(super) fn has_names(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// `None`: there is no such user.
    pub(super) async fn find(&self, name: &str) -> Result<Option<User>, UsersError> {
        Ok(self.all().await?.into_iter().find(|user| user.name == name))
    }

    /// Whoever says nothing else is this one.
    pub(super) fn only(&self) -> Option<&'static str> {
        matches!(self, Self::TokenFile(_)).then_some(TOKEN_USER)
    }

    async fn all(&self) -> Result<Vec<User>, UsersError> {
        let (Self::File(file) | Self::TokenFile(file)) = self;
        let read = async {
            let size = tokio::fs::metadata(file).await?.len();
            if size > FILE_BYTES_MAX {
                return Err(std::io::Error::other(format!("it has {size} bytes")));
            }
            tokio::fs::read_to_string(file).await
        };
        let text = read.await.map_err(|error| {
            tracing::error!(file = %file.display(), %error, "the users of the console cannot be read");
            "The file that says who may log in cannot be read. The log of the server says why.".to_owned()
        })?;
        match self {
            Self::File(_) => parse(&text).map_err(|(line, why)| {
                tracing::error!(file = %file.display(), line, why, "the users of the console make no sense");
                format!("Line {line} of the file that says who may log in is wrong: {why}.")
            }),
            Self::TokenFile(_) => {
                let token = text.trim();
                if token.len() < TOKEN_BYTES_MIN {
                    return Err(format!(
                        "The token has less than {TOKEN_BYTES_MIN} characters. Write a longer one into the file: \
                         openssl rand -hex 32."
                    ));
                }
                Ok(vec![User {
                    name: TOKEN_USER.to_owned(),
                    role: Role::Operator,
                    credential: Credential::Token(token.to_owned()),
                }])
            }
        }
    }
}

/// Letters, digits and `.-_@`: they stand in the audit.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_@".contains(&b))
}

/// `name role hash` in each line; empty ones and those that begin with `#` say nothing. Fails with the number of the line
/// that is wrong, and why, which tells nothing of what stands in it.
fn parse(text: &str) -> Result<Vec<User>, (usize, &'static str)> {
    let mut users: Vec<User> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, role, hash] = words[..] else {
            return Err((
                number,
                "a line has a name, a role and a hash, as `stanby console-user` prints them",
            ));
        };
        if !is_name(name) {
            return Err((number, "a name must have 1 to 64 letters, digits and .-_@"));
        }
        let role = Role::parse(role);
        let role = role.ok_or((
            number,
            "the role must be reader, payload-reader or operator",
        ))?;
        let hashed = Hashed::parse(hash);
        let hashed = hashed.ok_or((
            number,
            "the hash is damaged: make the line again with `stanby console-user`",
        ))?;
        if users.iter().any(|user| user.name == name) {
            return Err((number, "an earlier line has the same name"));
        }
        users.push(User {
            name: name.to_owned(),
            role,
            credential: Credential::Password(hashed),
        });
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_users_is_read_and_a_line_that_is_wrong_is_named() {
        let hash = format!("pbkdf2-sha256$1${}${}", "00".repeat(16), "11".repeat(32));
        let good = format!("# people\n\nann operator {hash}\n  bob  reader {hash}\n");
        let users = parse(&good).unwrap();
        let shown: Vec<String> = users.iter().map(|user| format!("{user:?}")).collect();
        assert_eq!(shown, ["ann (operator)", "bob (reader)"]);
        for (text, line) in [
            (format!("ann operator {hash}\nann reader {hash}"), 2),
            (format!("\nann king {hash}"), 2),
            ("ann operator geheim".to_owned(), 1),
            ("ann operator".to_owned(), 1),
            (format!("<b> operator {hash}"), 1),
        ] {
            let (at, why) = parse(&text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(!why.contains("geheim"));
        }
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Reader < Role::Payloads && Role::Payloads < Role::Operator);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }
}
