//! What a query asks of a list, and the list put together from the pages that the node answers with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use crate::core::report::{Channel, Client, ITEMS_MAX, Items, Page, Question, Start};
use crate::monitoring::reports::{QueryError, Reports};

const LIMIT_DEFAULT: usize = 1024;

/// A list with more channels, clients and subscriptions together ends there, whatever limit was asked for: what
/// follows is there from an offset on.
const ENTRIES_MAX: usize = 100_000;

/// An active that is busy answers some pages of a list and not the others.
const LIST_TIME_MAX: Duration = Duration::from_secs(10);

/// The parameters of a query. Of one that is there twice the first counts, as in Go.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Vec<(String, String)>")]
pub(super) struct Query(BTreeMap<String, String>);

impl From<Vec<(String, String)>> for Query {
    fn from(parameters: Vec<(String, String)>) -> Self {
        // A map keeps the last of several.
        Self(parameters.into_iter().rev().collect())
    }
}

impl Query {
    pub(super) fn get(&self, key: &str) -> Option<&String> {
        self.0.get(key)
    }
}

/// As NATS Streaming reads it: what makes no sense is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paging {
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// The list holds everything about its items.
    pub(super) subscriptions: bool,
    /// Items and their subscriptions.
    pub(super) entries_max: usize,
}

impl Paging {
    pub(super) fn of(query: &Query) -> Self {
        let number = |key: &str| -> Option<usize> { query.get(key)?.parse().ok() };
        Self {
            offset: number("offset").unwrap_or(0),
            limit: number("limit")
                .filter(|&limit| limit > 0)
                .unwrap_or(LIMIT_DEFAULT),
            subscriptions: wants_subscriptions(query),
            entries_max: ENTRIES_MAX,
        }
    }
}

pub(super) fn wants_subscriptions(query: &Query) -> bool {
    query.get("subs").is_some_and(|subs| subs.parse() == Ok(1))
}

/// A parameter that says something.
pub(super) fn named<'q>(query: &'q Query, key: &str) -> Option<&'q str> {
    query
        .get(key)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

pub(super) async fn channels(
    reports: &Reports,
    paging: Paging,
) -> Result<(Vec<Channel>, usize), QueryError> {
    let listed = timeout(LIST_TIME_MAX, all_channels(reports, paging)).await;
    listed.unwrap_or(Err(QueryError::Busy))
}

async fn all_channels(
    reports: &Reports,
    paging: Paging,
) -> Result<(Vec<Channel>, usize), QueryError> {
    let weight = |channel: &Channel| 1 + channel.subscriptions.len();
    let mut list = List::new(paging);
    while let Some((from, limit)) = list.next(|channel: &Channel| channel.name.clone()) {
        let question = Question::Channels {
            from,
            limit,
            subscriptions: paging.subscriptions,
        };
        match reports.ask(question).await? {
            Page::Channels(items) => list.add(items, weight),
            Page::Clients(_) => break,
        }
    }
    Ok((list.items, list.total))
}

pub(super) async fn clients(
    reports: &Reports,
    paging: Paging,
) -> Result<(Vec<Client>, usize), QueryError> {
    let listed = timeout(LIST_TIME_MAX, all_clients(reports, paging)).await;
    listed.unwrap_or(Err(QueryError::Busy))
}

async fn all_clients(
    reports: &Reports,
    paging: Paging,
) -> Result<(Vec<Client>, usize), QueryError> {
    let weight = |client: &Client| 1 + client.subscriptions.values().map(Vec::len).sum::<usize>();
    let mut list = List::new(paging);
    while let Some((from, limit)) = list.next(|client: &Client| client.id.clone()) {
        let question = Question::Clients {
            from,
            limit,
            subscriptions: paging.subscriptions,
        };
        match reports.ask(question).await? {
            Page::Clients(items) => list.add(items, weight),
            Page::Channels(_) => break,
        }
    }
    Ok((list.items, list.total))
}

/// Grows page by page. What comes and goes meanwhile is in it or not, but nothing is in it twice.
struct List<Item> {
    items: Vec<Item>,
    total: usize,
    offset: usize,
    limit: usize,
    more: bool,
    /// What is in it, subscriptions included.
    entries: usize,
    entries_max: usize,
}

impl<Item> List<Item> {
    fn new(paging: Paging) -> Self {
        Self {
            items: Vec::new(),
            total: 0,
            offset: paging.offset,
            limit: paging.limit.min(paging.entries_max),
            entries_max: paging.entries_max,
            more: true,
            entries: 0,
        }
    }

    fn next<Name>(&self, name: impl Fn(&Item) -> Name) -> Option<(Start<Name>, usize)> {
        let left = self.limit - self.items.len();
        let start = match self.items.last() {
            None => Start::Offset(self.offset),
            Some(last) => Start::After(name(last)),
        };
        (self.more && left > 0).then_some((start, left.min(ITEMS_MAX)))
    }

    fn add(&mut self, page: Items<Item>, weight: impl Fn(&Item) -> usize) {
        self.total = page.total;
        // A full page says nothing about what follows.
        self.more = page.more || page.items.len() == ITEMS_MAX;
        if page.items.is_empty() {
            self.more = false;
        }
        let room = self.limit - self.items.len();
        for item in page.items.into_iter().take(room) {
            // A single one is always listed.
            let entries = self.entries + weight(&item);
            if entries > self.entries_max && !self.items.is_empty() {
                self.more = false;
                return;
            }
            self.entries = entries;
            self.items.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(query: &[(&str, &str)]) -> (usize, usize, bool) {
        let query = query.iter();
        let query: Vec<_> = query
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let Paging {
            offset,
            limit,
            subscriptions,
            ..
        } = Paging::of(&query.into());
        (offset, limit, subscriptions)
    }

    /// Acceptance: 142.
    #[test]
    fn what_makes_no_sense_in_a_query_is_the_default() {
        assert_eq!(paging(&[]), (0, 1024, false));
        assert_eq!(
            paging(&[("offset", "-1"), ("limit", "-1")]),
            (0, 1024, false)
        );
        assert_eq!(paging(&[("offset", "x"), ("limit", "0")]), (0, 1024, false));
        assert_eq!(
            paging(&[("offset", "7"), ("limit", "3"), ("subs", "1")]),
            (7, 3, true)
        );
        for subs in ["true", "2", "", "11"] {
            assert_eq!(paging(&[("subs", subs)]), (0, 1024, false), "{subs}");
        }
        for subs in ["1", "01", "+1"] {
            assert_eq!(paging(&[("subs", subs)]), (0, 1024, true), "{subs}");
        }
    }

    /// Acceptance: 142.
    #[test]
    fn the_first_of_two_parameters_of_one_name_counts() {
        let query = [
            ("offset", "1"),
            ("limit", "2"),
            ("offset", "3"),
            ("subs", "1"),
            ("subs", "0"),
        ];
        assert_eq!(paging(&query), (1, 2, true));
    }
}
