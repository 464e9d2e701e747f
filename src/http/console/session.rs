//! What a browser shows once somebody is logged in: a cookie that says who it is and until when, signed with what the
//! servers of these tables share. So either server of a pair believes it, and nothing has to be remembered but who has
//! logged out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use data_encoding::HEXLOWER;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::query::link;
use super::users::User;
use crate::core::time::Timestamp;

/// Then one has to log in again.
const LASTS: Duration = Duration::from_hours(12);

/// How many sessions that were ended before their time are kept.
const ENDED_MAX: usize = 4096;

const NONCE_BYTES: usize = 16;

/// What the cookie says, before anybody has looked whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    nonce: String,
    /// Seconds since 1970.
    until: i64,
    pub(super) name: String,
    sign: String,
}

/// Those who have logged out, and until when their cookies would have been good.
#[derive(Debug, Default)]
pub(super) struct EndedSessions(Mutex<BTreeMap<String, i64>>);

impl EndedSessions {
    pub(super) fn add(&self, session: &Session, now: Timestamp) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, until| *until > seconds(now));
        if ended.len() >= ENDED_MAX
            && let Some(first) = ended.iter().min_by_key(|(_, until)| **until)
        {
            let first = first.0.clone();
            ended.remove(&first);
        }
        ended.insert(session.nonce.clone(), session.until);
    }

    fn has(&self, session: &Session) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains_key(&session.nonce)
    }
}

impl Session {
    /// `None` where the system gives no random numbers.
    pub(super) fn new(key: &hmac::Key, user: &User, now: Timestamp) -> Option<Self> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let lasts = i64::try_from(LASTS.as_secs()).unwrap_or(i64::MAX);
        let mut session = Self {
            nonce: HEXLOWER.encode(&nonce),
            until: seconds(now).saturating_add(lasts),
            name: user.name.clone(),
            sign: String::new(),
        };
        session.sign = HEXLOWER.encode(hmac::sign(key, session.text(user).as_bytes()).as_ref());
        Some(session)
    }

    /// Reads the cookie; `None`: there is none that could be one of ours.
    pub(super) fn of(key: &hmac::Key, headers: &HeaderMap) -> Option<Self> {
        let name = cookie_name(key);
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut cookies = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let text =
            cookies.find_map(|cookie| cookie.trim().strip_prefix(&name)?.strip_prefix('='))?;
        let mut parts = text.split('.');
        let (nonce, until) = (parts.next()?, parts.next()?);
        let (user, sign) = (parts.next()?, parts.next()?);
        let user = String::from_utf8(HEXLOWER.decode(user.as_bytes()).ok()?).ok()?;
        (nonce.len() == 2 * NONCE_BYTES && parts.next().is_none()).then_some(Self {
            nonce: nonce.to_owned(),
            until: until.parse().ok()?,
            name: user,
            sign: sign.to_owned(),
        })
    }

    /// Signed by a server of these tables, for the user as the file has it now, and neither over nor ended.
    pub(super) fn holds(
        &self,
        key: &hmac::Key,
        user: &User,
        ended: &EndedSessions,
        now: Timestamp,
    ) -> bool {
        let Ok(sign) = HEXLOWER.decode(self.sign.as_bytes()) else {
            return false;
        };
        hmac::verify(key, self.text(user).as_bytes(), &sign).is_ok()
            && seconds(now) < self.until
            && !ended.has(self)
    }

    /// What is signed; no part of it holds a line break.
    fn text(&self, user: &User) -> String {
        let (nonce, until) = (&self.nonce, self.until);
        format!("session\n{nonce}\n{until}\n{}\n{}", user.name, user.mark())
    }

    /// What each form that acts has to bring along: nobody can read it who is not shown the page.
    pub(super) fn csrf(&self, key: &hmac::Key) -> String {
        let text = format!("csrf\n{}\n{}", self.nonce, self.name);
        HEXLOWER.encode(hmac::sign(key, text.as_bytes()).as_ref())
    }

    pub(super) fn is_csrf(&self, key: &hmac::Key, given: &str) -> bool {
        let text = format!("csrf\n{}\n{}", self.nonce, self.name);
        let given = HEXLOWER.decode(given.as_bytes());
        given.is_ok_and(|given| hmac::verify(key, text.as_bytes(), &given).is_ok())
    }

    pub(super) fn cookie(&self, key: &hmac::Key, is_secure: bool) -> Option<HeaderValue> {
        let user = HEXLOWER.encode(self.name.as_bytes());
        let value = format!("{}.{}.{user}.{}", self.nonce, self.until, self.sign);
        cookie(key, &value, LASTS.as_secs(), is_secure)
    }
}

/// Takes the cookie away.
pub(super) fn no_cookie(key: &hmac::Key, is_secure: bool) -> Option<HeaderValue> {
    cookie(key, "", 0, is_secure)
}

fn cookie(key: &hmac::Key, value: &str, max_age: u64, is_secure: bool) -> Option<HeaderValue> {
    let (name, path) = (cookie_name(key), link("", &[]));
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!(
        "{name}={value}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}"
    );
    HeaderValue::from_str(&text).ok()
}

/// Browsers send cookies of one host to all its ports: other pairs on it have other names.
fn cookie_name(key: &hmac::Key) -> String {
    let mark = hmac::sign(key, b"cookie");
    let mark = HEXLOWER.encode(mark.as_ref().get(..4).unwrap_or_default());
    format!("stanby-console-{mark}")
}

fn seconds(time: Timestamp) -> i64 {
    time.0.div_euclid(1_000_000_000)
}
