//! `/streaming/channelsz`.

use axum::extract::{Query as Asked, State};
use axum::response::Response;
use serde::{Serialize, Serializer};

use super::answer_budget::in_turn;
use super::format::{Callback, failed, large, not_found, time};
use super::paging::{self, Paging, Query, named, wants_subscriptions};
use super::subscription::{Subscriptionz, listed};
use super::view::Source;
use crate::core::report::{Channel, Page, Question};

#[derive(Serialize)]
struct Channelsz {
    cluster_id: String,
    server_id: String,
    now: String,
    offset: usize,
    limit: usize,
    count: usize,
    total: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "each")]
    channels: Vec<Channel>,
}

/// One by one: they may be many.
fn each<S: Serializer>(channels: &[Channel], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        channels
            .iter()
            .map(|channel| Channelz::from(channel.clone())),
    )
}

#[derive(Serialize)]
struct Channelz {
    name: String,
    msgs: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    subs_count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<Subscriptionz>,
}

impl From<Channel> for Channelz {
    fn from(channel: Channel) -> Self {
        Self {
            name: channel.name.to_string(),
            msgs: channel.messages,
            bytes: channel.bytes,
            first_seq: channel.first.0,
            last_seq: channel.last.0,
            subs_count: channel.subscription_count,
            subscriptions: listed(channel.subscriptions),
        }
    }
}

pub(super) async fn channelsz(
    State(source): State<Source>,
    Asked(query): Asked<Query>,
) -> Response {
    let budget = source.shared.answer_budget.clone();
    let Some(turn) = budget.list().await else {
        return budget.refuse();
    };
    let callback = Callback::of(&query);
    let response = match named(&query, "channel") {
        Some(name) => one(&source, name, wants_subscriptions(&query), callback).await,
        None => list(&source, Paging::of(&query), callback).await,
    };
    in_turn(turn, response)
}

async fn one(source: &Source, name: &str, subscriptions: bool, callback: Callback) -> Response {
    let question = Question::Channel {
        name: name.to_owned(),
        subscriptions,
    };
    let items = match source.reports.ask(question).await {
        Ok(Page::Channels(items)) => items.items,
        Ok(Page::Clients(_)) => Vec::new(),
        Err(why) => {
            return failed(&format!(
                "Error getting information about channel {name:?}: {why}"
            ));
        }
    };
    match items.into_iter().next() {
        Some(channel) => large(move || Channelz::from(channel), callback).await,
        None => not_found(&format!("Channel {name} not found")),
    }
}

async fn list(source: &Source, paging: Paging, callback: Callback) -> Response {
    let (items, total) = match paging::channels(&source.reports, paging).await {
        Ok(list) => list,
        Err(why) => {
            return failed(&format!(
                "Error getting information about channels state: {why}"
            ));
        }
    };
    let view = source.view();
    let page = move || {
        let count = items.len();
        let (names, channels) = if paging.subscriptions {
            (Vec::new(), items)
        } else {
            let names = items.iter().map(|channel| channel.name.to_string());
            (names.collect(), Vec::new())
        };
        Channelsz {
            cluster_id: view.status.cluster_id,
            server_id: view.status.server_id,
            now: time(view.now.wall),
            offset: paging.offset,
            limit: paging.limit,
            count,
            total,
            names,
            channels,
        }
    };
    large(page, callback).await
}
