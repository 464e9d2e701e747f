//! What a client says, appended to a buffer. Subjects must not hold blanks or line ends: the callers' types see
//! to that.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

pub const PING: &[u8] = b"PING\r\n";
pub const PONG: &[u8] = b"PONG\r\n";

/// What a client says of itself when it connects. Holds secrets: it has no `Debug`.
#[derive(Default, Serialize)]
pub(in crate::nats) struct Hello<'a> {
    pub(in crate::nats) name: &'a str,
    pub(in crate::nats) tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::nats) user: Option<&'a str>,
    #[serde(rename = "pass", skip_serializing_if = "Option::is_none")]
    pub(in crate::nats) password: Option<&'a str>,
    #[serde(rename = "auth_token", skip_serializing_if = "Option::is_none")]
    pub(in crate::nats) token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::nats) jwt: Option<&'a str>,
    /// Public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::nats) nkey: Option<&'a str>,
    /// The signature of the nonce, in unpadded URL-safe base64.
    #[serde(rename = "sig", skip_serializing_if = "Option::is_none")]
    pub(in crate::nats) signature: Option<&'a str>,
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has them")]
struct Connect<'a> {
    #[serde(flatten)]
    hello: &'a Hello<'a>,
    verbose: bool,
    pedantic: bool,
    lang: &'a str,
    version: &'a str,
    /// 1: takes INFO at any time.
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
}

pub(in crate::nats) fn connect(hello: &Hello<'_>, out: &mut BytesMut) {
    let connect = Connect {
        hello,
        verbose: false,
        pedantic: false,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
    };
    let json = serde_json::to_vec(&connect).expect("strings and flags are JSON");
    out.extend_from_slice(b"CONNECT ");
    out.extend_from_slice(&json);
    out.extend_from_slice(b"\r\n");
}

pub fn subscribe(subject: &str, sid: u64, out: &mut BytesMut) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject.as_bytes());
    out.put_u8(b' ');
    number(sid, out);
    out.extend_from_slice(b"\r\n");
}

pub(in crate::nats) fn unsubscribe(sid: u64, out: &mut BytesMut) {
    out.extend_from_slice(b"UNSUB ");
    number(sid, out);
    out.extend_from_slice(b"\r\n");
}

pub fn publish(subject: &[u8], reply: Option<&[u8]>, payload: &[u8], out: &mut BytesMut) {
    let reply_bytes = reply.map_or(0, |reply| reply.len() + 1);
    out.reserve(subject.len() + reply_bytes + payload.len() + 32);
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    out.put_u8(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.put_u8(b' ');
    }
    number(payload.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Takes those of these messages out, as [`publish`] has written them, whose subject and reply subject have more than `most` bytes
/// together, and says how many they were; `None` for none.
pub fn without_longer(messages: &Bytes, most: usize) -> Option<(Bytes, u64)> {
    let mut kept = BytesMut::new();
    let mut dropped = 0;
    let mut rest = &messages[..];
    while let Some(line_end) = rest.windows(2).position(|two| two == b"\r\n") {
        let mut words = rest[..line_end].split(|byte| *byte == b' ');
        let (_, size) = (words.next(), words.next_back());
        let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse::<usize>().ok());
        let end = (line_end + size.unwrap_or_default() + 4).min(rest.len());
        let (message, others) = rest.split_at(end);
        if words.map(<[u8]>::len).sum::<usize>() > most {
            dropped += 1;
        } else {
            kept.extend_from_slice(message);
        }
        rest = others;
    }
    (dropped > 0).then(|| (kept.freeze(), dropped))
}

fn number(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        let digit = u8::try_from(number % 10).expect("a digit is below ten");
        digits[at] = b'0' + digit;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encode: impl Fn(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        encode(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn lines_are_as_the_protocol_has_them() {
        assert_eq!(encoded(|out| subscribe("a.>", 10, out)), "SUB a.> 10\r\n");
        assert_eq!(encoded(|out| unsubscribe(0, out)), "UNSUB 0\r\n");
        assert_eq!(
            encoded(|out| publish(b"a.b", None, b"12345", out)),
            "PUB a.b 5\r\n12345\r\n"
        );
        assert_eq!(
            encoded(|out| publish(b"a", Some(b"r"), b"", out)),
            "PUB a r 0\r\n\r\n"
        );
        assert_eq!(
            encoded(|out| unsubscribe(u64::MAX, out)),
            "UNSUB 18446744073709551615\r\n"
        );
    }

    #[test]
    fn messages_with_subjects_that_are_too_long_are_taken_out_and_the_others_stay() {
        let mut out = BytesMut::new();
        publish(b"short", None, b"a\r\nPUB x 1\r\n", &mut out);
        let short = out.clone();
        publish(b"a.long.subject", None, b"12345", &mut out);
        publish(b"short", Some(b"and.a.reply"), b"", &mut out);
        publish(b"last", None, b"", &mut out);
        let (kept, dropped) = without_longer(&out.freeze(), 10).expect("two are longer");

        assert_eq!(dropped, 2);
        assert_eq!(kept, [&short[..], b"PUB last 0\r\n\r\n"].concat());
        assert_eq!(without_longer(&kept, 5), None);
    }

    #[test]
    fn a_connect_names_what_is_given_and_nothing_else() {
        let hello = Hello {
            name: "stanby",
            token: Some("t\"0"),
            ..Hello::default()
        };

        let line = encoded(|out| connect(&hello, out));

        let json = line.strip_prefix("CONNECT ").unwrap().trim_end();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["name"], "stanby");
        assert_eq!(json["auth_token"], "t\"0");
        assert_eq!(json["no_responders"], true);
        for absent in ["user", "pass", "jwt", "nkey", "sig"] {
            assert!(json.get(absent).is_none(), "{absent} in {json}");
        }
    }
}
