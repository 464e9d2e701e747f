//! Passwords as the file of users holds them: what PBKDF2 makes of one, so that whoever reads the file does not know it.

use std::fmt;
use std::num::NonZeroU32;

use data_encoding::HEXLOWER;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};

const KIND: &str = "pbkdf2-sha256";

/// As the file's own; more take longer for who logs in, and for who guesses.
const ROUNDS: u32 = 600_000;

/// A file that asks for more would keep the server busy.
const ROUNDS_MAX: u32 = 10_000_000;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// `pbkdf2-sha256$600000$salt$hash`, the last two in hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, hash) = (HEXLOWER.encode(&self.salt), HEXLOWER.encode(&self.hash));
        write!(f, "{KIND}${}${salt}${hash}", self.rounds)
    }
}

impl Hashed {
    /// Takes a moment. `None` where the system gives no random numbers.
    pub fn new(password: &str) -> Option<Self> {
        let mut salt = vec![0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).ok()?;
        let rounds = NonZeroU32::new(ROUNDS)?;
        let mut hash = vec![0; HASH_BYTES];
        pbkdf2::derive(
            PBKDF2_HMAC_SHA256,
            rounds,
            &salt,
            password.as_bytes(),
            &mut hash,
        );
        Some(Self { rounds, salt, hash })
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let (kind, rounds) = (parts.next()?, parts.next()?);
        let (salt, hash) = (parts.next()?, parts.next()?);
        let rounds = rounds.parse::<NonZeroU32>().ok()?;
        let salt = HEXLOWER.decode(salt.as_bytes()).ok()?;
        let hash = HEXLOWER.decode(hash.as_bytes()).ok()?;
        let fits = kind == KIND
            && parts.next().is_none()
            && rounds.get() <= ROUNDS_MAX
            && salt.len() >= SALT_BYTES
            && hash.len() == HASH_BYTES;
        fits.then_some(Self { rounds, salt, hash })
    }

    /// Takes a moment, and as long whatever is given.
    pub(super) fn is(&self, password: &str) -> bool {
        pbkdf2::verify(
            PBKDF2_HMAC_SHA256,
            self.rounds,
            &self.salt,
            password.as_bytes(),
            &self.hash,
        )
        .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_and_is_not_in_it() {
        let hashed = Hashed::new("geheim geheim").unwrap();
        let text = hashed.to_string();

        let read = Hashed::parse(&text).unwrap();
        assert!(read.is("geheim geheim") && !read.is("geheim") && !read.is(""));
        assert!(!text.contains("geheim") && !format!("{read:?}").contains('$'));
        for wrong in [
            "",
            "geheim",
            "pbkdf2-sha256$0$00$00",
            "md5$1$00$00",
            &text.replace("$600000$", "$4000000000$"),
            &format!("{text}$"),
            &text[..text.len() - 2],
        ] {
            assert_eq!(Hashed::parse(wrong), None, "{wrong}");
        }
    }
}
