//! How a channel and a durable are called in JetStream. Two that would be called alike are refused, not mixed.

use std::collections::BTreeMap;

/// What JetStream takes as the name of a stream or consumer, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Where the name of the channel goes.
const CHANNEL: &str = "{channel}";

/// The rules by which channels get subjects and streams.
#[derive(Clone, Debug)]
pub struct Rules {
    subject: String,
    stream: String,
    /// Streams that are given by hand, by channel.
    streams: BTreeMap<String, String>,
}

/// The names for one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub subject: String,
    pub stream: String,
}

impl Rules {
    /// `subject` and `stream` name the channel as `{channel}`; `streams` are `CHANNEL=STREAM`.
    pub fn new(subject: &str, stream: &str, streams: &[String]) -> Result<Self, NameError> {
        for (flag, rule) in [("--subject", subject), ("--stream", stream)] {
            if !rule.contains(CHANNEL) {
                let rule = rule.to_owned();
                return Err(NameError::OneForAll { flag, rule });
            }
        }
        let mut given = BTreeMap::new();
        for text in streams {
            let parts = text
                .rsplit_once('=')
                .filter(|(_, stream)| !stream.is_empty());
            let (channel, stream) = parts.ok_or_else(|| NameError::NotAPair(text.clone()))?;
            given.insert(channel.to_owned(), stream.to_owned());
        }
        Ok(Self {
            subject: subject.to_owned(),
            stream: stream.to_owned(),
            streams: given,
        })
    }

    /// In the order of `channels`.
    pub fn names(&self, channels: &[&str]) -> Result<Vec<Names>, NameError> {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        let mut all = Vec::new();
        for channel in channels {
            let stream = match self.streams.get(*channel) {
                Some(stream) => stream.clone(),
                None => self.stream.replace(CHANNEL, &channel.replace('.', "_")),
            };
            let subject = self.subject.replace(CHANNEL, channel);
            if !is_subject(&subject) {
                let channel = (*channel).to_owned();
                return Err(NameError::NoSubject { channel, subject });
            }
            if !is_name(&stream) {
                let channel = (*channel).to_owned();
                return Err(NameError::NoStream { channel, stream });
            }
            if let Some(other) = owners.insert(stream.clone(), channel) {
                return Err(NameError::SharedStream {
                    channels: [other.to_owned(), (*channel).to_owned()],
                    stream,
                });
            }
            all.push(Names { subject, stream });
        }
        Ok(all)
    }
}

/// Names that NATS or JetStream would not take, or that would make one of two channels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "{flag} {rule:?} does not name the channel, so that all would be one; write it like stan.{CHANNEL}"
    )]
    OneForAll { flag: &'static str, rule: String },
    #[error("--stream-of {0:?} is not like CHANNEL=STREAM")]
    NotAPair(String),
    #[error(
        "channel {channel:?} would get the subject {subject:?}, which NATS does not take; leave the channel out with --channel, \
         or name another rule with --subject"
    )]
    NoSubject { channel: String, subject: String },
    #[error(
        "channel {channel:?} would get the stream {stream:?}, which JetStream does not take; name one with --stream-of \
         CHANNEL=STREAM"
    )]
    NoStream { channel: String, stream: String },
    #[error(
        "channels {:?} and {:?} would both get the stream {stream:?}; name one for one of them with --stream-of CHANNEL=STREAM",
        channels[0], channels[1]
    )]
    SharedStream {
        channels: [String; 2],
        stream: String,
    },
}

fn is_subject(text: &str) -> bool {
    let fits = |token: &str| !matches!(token, "" | "*" | ">");
    text.split('.').all(fits) && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Also of a consumer.
pub fn is_name(text: &str) -> bool {
    let fits = |c: char| {
        !(c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\'))
    };
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(channels: &[&str], streams: &[&str]) -> Result<Vec<Names>, NameError> {
        let streams: Vec<String> = streams.iter().map(|it| (*it).to_owned()).collect();
        Rules::new("stan.{channel}", "{channel}", &streams)?.names(channels)
    }

    #[test]
    fn a_channel_keeps_its_name_as_subject_and_its_dots_go_in_the_stream() {
        let found = names(&["orders.eu"], &[]).expect("names");
        assert_eq!(found[0].subject, "stan.orders.eu");
        assert_eq!(found[0].stream, "orders_eu");
    }

    #[test]
    fn channels_that_would_share_a_stream_are_refused_until_one_is_named() {
        let refused = names(&["a.b", "a_b"], &[])
            .expect_err("a refusal")
            .to_string();
        assert!(refused.contains("\"a.b\" and \"a_b\""), "{refused}");
        assert!(refused.contains("--stream-of"), "{refused}");
        let found = names(&["a.b", "a_b"], &["a.b=AB"]).expect("names");
        assert_eq!(found[0].stream, "AB");
    }

    #[test]
    fn what_is_no_subject_or_stream_is_refused_by_name() {
        for (channel, part) in [("a b", "--subject"), ("a\\b", "--stream-of")] {
            let refused = names(&[channel], &[]).expect_err("a refusal").to_string();
            assert!(refused.contains(part), "{refused}");
            assert!(refused.contains(&format!("{channel:?}")), "{refused}");
        }
    }

    #[test]
    fn a_rule_that_names_no_channel_is_refused() {
        assert!(Rules::new("stan", "{channel}", &[]).is_err());
        assert!(Rules::new("{channel}", "{channel}", &["a".to_owned()]).is_err());
    }
}
