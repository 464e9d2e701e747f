//! Lists that are shown a part at a time: how one is asked for, its search field, and the way to the parts before and after.

use axum::response::Response;
use maud::{Markup, html};

use super::layout;
use super::parts::{empty, sql};
use super::principal::Principal;
use super::query::link;
use crate::store::views::Part;

/// Rows of one part of a list.
pub(super) const ROWS: usize = 50;

/// How a list is asked for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) filter: String,
    #[serde(default)]
    pub(super) sort: String,
    /// Rows before the first one.
    #[serde(default)]
    pub(super) from: u32,
}

impl ListQuery {
    /// By the first of `sorts` unless another one of them was asked for.
    pub(super) fn part<'a>(&'a self, sorts: &[&'a str]) -> Part<'a> {
        Part {
            filter: self.filter.trim(),
            sort: self.sort(sorts),
            offset: i64::from(self.from),
            limit: i64::try_from(ROWS + 1).unwrap_or(i64::MAX),
        }
    }

    fn sort<'a>(&'a self, sorts: &[&'a str]) -> &'a str {
        let asked = sorts.iter().find(|sort| **sort == self.sort);
        asked.or(sorts.first()).copied().unwrap_or_default()
    }

    /// The field to search with, which finds while one types; without scripts Enter does.
    pub(super) fn search(&self, path: &str, sorts: &[&str], what: &str) -> Markup {
        let action = link(path, &[]);
        html! {
            form.search role="search" action=(action) method="get"
                hx-get=(action) hx-trigger="input changed delay:300ms, submit" hx-target="#list" hx-select="#list"
                hx-swap="outerHTML" hx-push-url="true" hx-sync="this:replace" {
                label for="filter" { (what) }
                input #filter type="search" name="filter" value=(self.filter) autocomplete="off";
                label for="sort" { "Sorted by" }
                select #sort name="sort" {
                    @for sort in sorts {
                        option value=(sort) selected[*sort == self.sort(sorts)] { (sort) }
                    }
                }
                button type="submit" { "Search" }
            }
        }
    }

    /// To the parts before and after; `found` rows were read.
    pub(super) fn pager(&self, path: &str, found: usize) -> Markup {
        let rows = u32::try_from(ROWS).unwrap_or(u32::MAX);
        let at = |from: u32| {
            let from = if from == 0 {
                String::new()
            } else {
                from.to_string()
            };
            link(
                path,
                &[
                    ("filter", &self.filter),
                    ("sort", &self.sort),
                    ("from", &from),
                ],
            )
        };
        let shown = found.min(ROWS);
        html! {
            nav.pager aria-label="Parts of the list" {
                @if self.from > 0 {
                    a href=(at(self.from.saturating_sub(rows))) rel="prev" { "← before" }
                }
                @if shown > 0 { span { (self.from + 1) "–" (self.from as usize + shown) } }
                @if found > shown {
                    a href=(at(self.from + rows)) rel="next" { "after →" }
                }
            }
        }
    }
}

/// A page that is a list with a search field.
#[derive(Debug)]
pub(super) struct List {
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    /// The query behind it.
    pub(super) query: &'static str,
    /// What it may be sorted by; by the first one unless asked otherwise.
    pub(super) sorts: &'static [&'static str],
    /// What the search field finds.
    pub(super) search: &'static str,
    /// Stands there when nothing is found.
    pub(super) none: &'static str,
    /// Stands there when there is nothing to be found.
    pub(super) nothing: &'static str,
}

impl List {
    pub(super) fn part<'a>(&self, asked: &'a ListQuery) -> Part<'a> {
        asked.part(self.sorts)
    }

    /// `read` may have one row more than the page shows; `above` stands before the list, `below` after it.
    pub(super) fn page<T>(
        &self,
        user: &Principal,
        asked: &ListQuery,
        read: Result<Vec<T>, Response>,
        rows: impl FnOnce(&[T]) -> Markup,
        above: &Markup,
        below: &Markup,
    ) -> Response {
        let all = match read {
            Ok(all) => all,
            Err(answer) => return answer,
        };
        let part = self.part(asked);
        let shown = all.get(..all.len().min(ROWS)).unwrap_or_default();
        let body = html! {
            h1 { (self.title) " " (sql(self.query, &[])) }
            (asked.search(self.path, self.sorts, self.search))
            (above)
            div #list {
                @if shown.is_empty() {
                    (empty(if part.filter.is_empty() && asked.from == 0 { self.nothing } else { self.none }))
                } @else {
                    (rows(shown))
                }
                (asked.pager(self.path, all.len()))
            }
            (below)
        };
        layout::page(user, self.title, self.path, &body)
    }
}
