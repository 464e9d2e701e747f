//! What could not be stored or delivered, by reason.

use axum::response::Response;
use maud::{Markup, html};

use super::layout;
use super::parts::{channel_link, empty, sql};
use super::query::link;
use super::verbs::action;
use super::visitor::Visitor;
use super::words::{grouped, or_dash, shown, time};
use crate::store::look::DeadGroup;

pub(super) async fn page(visitor: Visitor) -> Response {
    let console = match visitor.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let read = console.looks.read(async |store| {
        Ok((
            store.dead_groups().await?,
            store.refused_groups().await?,
            store.unreadable_groups().await?,
        ))
    });
    let (dead, refused, unreadable) = match read.await {
        Ok(read) => read,
        Err(why) => return layout::unread(&why),
    };
    let body = html! {
        h1 { "Dead letters" }
        h2 { "Given up after so many deliveries " (sql("dead", &[])) }
        (given_up(&visitor, &dead))
        h2 { "Published in SQL, and not stored " (sql("refused", &[])) }
        @if refused.is_empty() {
            (empty("None: everything that was published in SQL is stored, or waits for its time."))
        } @else {
            p {
                "Mend the reason, then put them back with " (sql("retry-refused", &[])) "."
            }
            div.scroll tabindex="0" role="region" aria-label="Publishes that were refused" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Reason" }
                            th scope="col" { "Channel" }
                            th scope="col" { "Publisher" }
                            th.n scope="col" { "Messages" }
                            th.n scope="col" { "Rows" }
                            th scope="col" { "Last" }
                        }
                    }
                    tbody {
                        @for it in &refused {
                            tr {
                                th scope="row" { (shown(&it.reason)) }
                                td { (channel_link(&it.channel)) }
                                td { (or_dash(Some(&it.publisher))) }
                                td.n { (grouped(it.messages)) }
                                td.n { (it.first_id) "–" (it.last_id) }
                                td { (time(it.last_at.as_deref())) }
                            }
                        }
                    }
                }
            }
            p.note { "Of the newest 10,000." }
        }
        h2 { "Stored, and passed over because they cannot be read " (sql("unreadable", &[])) }
        @if unreadable.is_empty() {
            (empty("None."))
        } @else {
            p { "Give the servers the key that is missing, or restore the rows, then seek the durables back to them." }
            div.scroll tabindex="0" role="region" aria-label="Messages that cannot be read" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Reason" }
                            th scope="col" { "Channel" }
                            th.n scope="col" { "Messages" }
                            th.n scope="col" { "Sequences" }
                            th scope="col" { "Noticed" }
                        }
                    }
                    tbody {
                        @for it in &unreadable {
                            tr {
                                th scope="row" { (shown(&it.why)) }
                                td { (channel_link(&it.channel)) }
                                td.n { (grouped(it.messages)) }
                                td.n { (it.first_sequence) "–" (it.last_sequence) }
                                td { (time(it.noticed_at.as_deref())) }
                            }
                        }
                    }
                }
            }
        }
    };
    layout::page(&visitor, "Dead letters", "/dead-letters", &body)
}

fn given_up(visitor: &Visitor, dead: &[DeadGroup]) -> Markup {
    html! {
        @if dead.is_empty() {
            (empty("None, or all were redriven."))
        } @else {
            p {
                "Mend the reason, then publish them again where they came from, here or with the query beside the channel that keeps them."
            }
            div.scroll tabindex="0" role="region" aria-label="Dead letters" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Reason" }
                            th scope="col" { "From" }
                            th scope="col" { "Durable" }
                            th scope="col" { "Publisher" }
                            th.n scope="col" { "Messages" }
                            th scope="col" { "Kept in" }
                            th scope="col" { "Last" }
                        }
                    }
                    tbody {
                        @for it in dead {
                            @let last = it.last_sequence.to_string();
                            tr {
                                th scope="row" { (or_dash(Some(&it.reason))) }
                                td { (channel_link(&it.origin_channel)) }
                                td {
                                    (or_dash(it.durable.as_deref()))
                                    @if let Some(group) = &it.queue_group { "/" (shown(group)) }
                                }
                                td { (or_dash(Some(&it.publisher))) }
                                td.n {
                                    a href=(link("/messages", &[("channel", &it.channel), ("at", &last)])) { (grouped(it.messages)) }
                                }
                                td {
                                    (channel_link(&it.channel)) " " (sql("redrive", &[("channel", &it.channel)]))
                                    ul.verbs { (action(visitor, "dlq redrive", "Redrive…", &[("channel", &it.channel)])) }
                                }
                                td { (time(it.last_at.as_deref())) }
                            }
                        }
                    }
                }
            }
        }
    }
}
