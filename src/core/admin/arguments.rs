//! The arguments of a request: text by name, as whoever asked has given it.

use bytestring::ByteString;

use super::{RequestError, shortened};
use crate::core::ids::{ChannelName, Sequence};
use crate::core::nearest::nearest;

/// In the words of the command line.
const VERBS: [&str; 14] = [
    "channel create",
    "channel limits",
    "channel purge",
    "channel delete",
    "message republish",
    "message delete",
    "dlq redrive",
    "durable seek",
    "durable pause",
    "durable resume",
    "durable ack",
    "durable skip",
    "durable remove",
    "client kick",
];

/// Names that are looked through for one that may have been meant.
const CANDIDATES_MAX: usize = 1000;

/// And so many are listed where none is near.
const LISTED_MAX: usize = 5;

pub(super) struct Arguments<'a> {
    given: &'a [(ByteString, ByteString)],
    known: Vec<&'static str>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(given: &'a [(ByteString, ByteString)]) -> Self {
        Self {
            given,
            known: Vec::new(),
        }
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        let mut given = self.given.iter();
        let (_, text) = given.find(|(key, _)| **key == *name)?;
        Some(text)
    }

    pub(super) fn need(&mut self, name: &'static str) -> Result<&'a str, RequestError> {
        self.text(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                RequestError::new(
                    format!("argument {name} is missing"),
                    format!("Give {name}."),
                )
            })
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<u64>, RequestError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse::<u64>().ok();
        // Columns of the tables are bigint.
        let number = number.filter(|number| i64::try_from(*number).is_ok());
        number.map(Some).ok_or_else(|| {
            RequestError::new(
                format!(
                    "argument {name} is {:?}, which is no such number",
                    shortened(text)
                ),
                format!("{name} is a whole number from 0 to {}.", i64::MAX),
            )
        })
    }

    pub(super) fn sequence(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Sequence>, RequestError> {
        Ok(self.number(name)?.map(Sequence))
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, RequestError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(RequestError::new(
                format!("argument {name} is {:?}", shortened(other)),
                format!("{name} is true or false."),
            )),
        }
    }

    pub(super) fn channel(&mut self) -> Result<ChannelName, RequestError> {
        let text = self.need("channel")?;
        channel_name(text)
    }

    /// To be called when all that the verb knows has been asked for: what else is given is a mistake.
    pub(super) fn finish(&self) -> Result<(), RequestError> {
        let is_known = |key: &str| self.known.contains(&key);
        let mut given = self.given.iter();
        let Some((unknown, _)) = given.find(|(key, _)| !is_known(key)) else {
            return Ok(());
        };
        let hint = match nearest(unknown, self.known.iter().copied()) {
            Some(meant) => format!("Did you mean {meant}?"),
            None => format!("It takes: {}.", self.known.join(", ")),
        };
        let unknown = shortened(unknown);
        Err(RequestError::new(
            format!("argument {unknown:?} is not known here"),
            hint,
        ))
    }
}

pub(super) fn channel_name(text: &str) -> Result<ChannelName, RequestError> {
    ChannelName::parse(text.to_owned().into()).ok_or_else(|| {
        RequestError::new(
            format!("{:?} is no name of a channel", shortened(text)),
            "A channel name has 1 to 1,024 bytes without /, * and >, and no empty part between its dots.",
        )
    })
}

pub(super) fn unknown_verb(verb: &str) -> RequestError {
    let known = VERBS.into_iter().chain(["step-down"]);
    let hint = match nearest(verb, known.clone()) {
        Some(meant) => format!("Did you mean {meant:?}?"),
        None => format!("There are: {}.", known.collect::<Vec<_>>().join(", ")),
    };
    RequestError::new(
        format!("{:?} is nothing that this server does", shortened(verb)),
        hint,
    )
}

/// There is no such channel, durable or client: what may have been meant, or some that there are.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> RequestError {
    let error = format!("there is no {what} {:?}", shortened(name));
    if let Some(meant) = nearest(name, candidates.clone().take(CANDIDATES_MAX)) {
        return RequestError::new(error, format!("Did you mean {meant:?}?"));
    }
    let listed: Vec<&str> = candidates.clone().take(LISTED_MAX).collect();
    let more = candidates.skip(LISTED_MAX).count();
    let hint = match (listed.as_slice(), more) {
        ([], _) => format!("There is no {what} at all."),
        (some, 0) => format!("There are: {}.", some.join(", ")),
        (some, more) => format!("There are: {} and {more} more.", some.join(", ")),
    };
    RequestError::new(error, hint)
}

/// Two arguments of which one is wanted.
pub(super) fn one_of(names: &str) -> RequestError {
    RequestError::new(
        format!("exactly one of {names} is wanted"),
        format!("Give one of {names}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_told_with_what_may_have_been_meant() {
        let names = ["orders", "billing"];
        let hint = |name| unknown("channel", name, names.into_iter()).hint;
        assert_eq!(hint("oders"), "Did you mean \"orders\"?");
        assert_eq!(hint("xyz"), "There are: orders, billing.");
        let none = unknown("channel", "x", [].into_iter());
        assert_eq!(none.hint, "There is no channel at all.");
        assert!(unknown_verb("chanel purge").hint.contains("channel purge"));
    }

    #[test]
    fn arguments_that_nobody_asks_for_and_numbers_that_are_none_are_mistakes() {
        let given = [("channel", "a"), ("befor", "7"), ("keep", "-1")];
        let given = given.map(|(key, text)| (key.into(), text.into()));
        let mut arguments = Arguments::new(&given);
        assert_eq!(
            arguments.channel().map(|name| name.to_string()),
            Ok("a".to_owned())
        );
        assert_eq!(arguments.number("before"), Ok(None));
        assert!(arguments.number("keep").is_err());
        let error = arguments.finish().expect_err("befor is not known");
        assert_eq!(error.hint, "Did you mean before?");
    }
}
