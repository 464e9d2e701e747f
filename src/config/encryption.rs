//! What payloads are encrypted with in the tables, and what else may be needed to read them.

use std::fmt;

use clap::{ArgAction, Args};

use super::error::Error;
use super::secret::Secret;

/// As NATS Streaming calls it. It takes precedence over the key on the command line and in files.
pub(super) const KEY_VARIABLE: &str = "NATS_STREAMING_ENCRYPTION_KEY";
const OTHER_KEYS_VARIABLE: &str = "STANBY_ENCRYPTION_OTHER_KEYS";

/// Between two keys of a list.
const SEPARATOR: char = ',';

/// Shorter than this, a key is found by trying.
const KEY_BYTES_OF_NOTE: usize = 16;

/// Each costs the start of a server a moment.
const OTHER_KEYS_MAX: usize = 8;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Encryption")]
pub struct EncryptionFlags {
    /// Encrypt the payloads of messages in the tables; needs a key
    #[arg(long, env = "STANBY_ENCRYPT", value_name = "BOOL")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub encrypt: bool,

    /// AES (AES-256-GCM) or CHACHA (ChaCha20-Poly1305)
    #[arg(
        long,
        env = "STANBY_ENCRYPTION_CIPHER",
        value_name = "CIPHER",
        default_value = "AES"
    )]
    pub encryption_cipher: String,

    /// Key to encrypt with; give it in the environment, every user of the machine sees the command line. Turns
    /// --encrypt on
    #[arg(
        long,
        env = KEY_VARIABLE,
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub encryption_key: Option<Secret>,

    /// More keys to decrypt with, comma separated: former ones, and those to come
    #[arg(
        long,
        env = OTHER_KEYS_VARIABLE,
        hide_env_values = true,
        value_name = "KEYS"
    )]
    pub encryption_other_keys: Option<Secret>,
}

/// How a server was configured to encrypt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// New messages are encrypted with it; `None`: they are not.
    pub key: Option<Secret>,
    /// Only read with.
    pub other_keys: Vec<Secret>,
    pub cipher: Cipher,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    #[default]
    Aes,
    ChaCha,
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes => "AES",
            Self::ChaCha => "CHACHA",
        })
    }
}

impl EncryptionFlags {
    pub fn encryption(&self) -> Result<Encryption, Error> {
        let key = given(self.encryption_key.as_ref());
        if self.encrypt && key.is_none() {
            return Err(Error::new(format!(
                "encryption key required: set {KEY_VARIABLE}, or leave --encrypt out"
            )));
        }
        let others = given(self.encryption_other_keys.as_ref()).map_or("", Secret::expose);
        let others = others.split(SEPARATOR).filter(|key| !key.is_empty());
        let other_keys: Vec<Secret> = others.map(Secret::from).collect();
        if other_keys.len() > OTHER_KEYS_MAX {
            return Err(Error::new(format!(
                "--encryption-other-keys has more than {OTHER_KEYS_MAX} keys; leave out those that no message needs any \
                 more"
            )));
        }
        for key in key.into_iter().chain(&other_keys) {
            ensure_usable(key)?;
        }
        Ok(Encryption {
            key: key.cloned(),
            other_keys,
            cipher: cipher(&self.encryption_cipher)?,
        })
    }
}

impl Encryption {
    /// What works, but not as one would wish.
    pub(super) fn warnings(&self) -> Option<String> {
        let is_short = |key: &Secret| key.expose().len() < KEY_BYTES_OF_NOTE;
        self.key.as_ref().is_some_and(is_short).then(|| {
            format!(
                "the encryption key has fewer than {KEY_BYTES_OF_NOTE} characters, so a person with a copy of \
                 the tables may find it by trying; make a new one with: openssl rand -base64 32"
            )
        })
    }
}

/// An empty variable is as good as none.
fn given(secret: Option<&Secret>) -> Option<&Secret> {
    secret.filter(|secret| !secret.is_empty())
}

/// What could not be given to every server in the same way is better noticed before anything is encrypted with it.
fn ensure_usable(key: &Secret) -> Result<(), Error> {
    if key.expose().contains(char::is_control) {
        return Err(Error::new(
            "an encryption key contains a control character, perhaps a line break at its end; take it away",
        ));
    }
    if key.expose().contains(SEPARATOR) {
        return Err(Error::new(
            "the encryption key contains a comma, which stands between keys where several are given; choose one without",
        ));
    }
    Ok(())
}

fn cipher(name: &str) -> Result<Cipher, Error> {
    match name.to_ascii_uppercase().as_str() {
        "" | "AES" => Ok(Cipher::Aes),
        "CHACHA" => Ok(Cipher::ChaCha),
        _ => Err(Error::new(format!(
            "encryption cipher not supported: {name:?}; use AES or CHACHA"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(encrypt: bool, key: &str, others: &str, cipher: &str) -> EncryptionFlags {
        EncryptionFlags {
            encrypt,
            encryption_cipher: cipher.to_owned(),
            encryption_key: Some(key.into()),
            encryption_other_keys: Some(others.into()),
        }
    }

    #[test]
    fn a_key_turns_encryption_on_and_others_only_read() {
        let with_key = flags(false, "a key of enough length", "b,,c", "chacha").encryption();
        let expected = Encryption {
            key: Some("a key of enough length".into()),
            other_keys: vec!["b".into(), "c".into()],
            cipher: Cipher::ChaCha,
        };
        assert_eq!(with_key.as_ref(), Ok(&expected));
        assert_eq!(with_key.unwrap().warnings(), None);

        let reads = flags(false, "", "b", "AES").encryption().unwrap();
        assert_eq!((reads.key, reads.other_keys.len()), (None, 1));
        assert_eq!(
            flags(false, "", "", "").encryption(),
            Ok(Encryption::default())
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        let many = "k,".repeat(9);
        for (flags, expected) in [
            (
                flags(true, "", "", "AES"),
                "encryption key required: set NATS_STREAMING_ENCRYPTION_KEY",
            ),
            (
                flags(true, "k", "", "DES"),
                "encryption cipher not supported: \"DES\"; use AES or CHACHA",
            ),
            (
                flags(true, "geheim\n", "", "AES"),
                "a line break at its end",
            ),
            (flags(true, "k", "geheim\t", "AES"), "control character"),
            (flags(true, "geheim,k", "", "AES"), "contains a comma"),
            (flags(true, "k", &many, "AES"), "more than 8 keys"),
        ] {
            let text = flags.encryption().unwrap_err().to_string();
            assert!(
                text.contains(expected) && !text.contains("geheim"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_short_key_is_warned_about() {
        let short = flags(true, "secret", "", "AES").encryption().unwrap();
        let warning = short.warnings().unwrap();
        assert!(warning.contains("openssl rand") && !warning.contains("secret"));
    }
}
