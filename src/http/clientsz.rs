//! `/streaming/clientsz`.

use std::collections::BTreeMap;

use axum::extract::{Query as Asked, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::format::{Callback, failed, json, not_found, time};
use super::paging::{self, Paging, Query, named, wants_subscriptions};
use super::subscription::{Subscriptionz, listed};
use super::view::Source;
use crate::core::report::{Client, Page, Question};

#[derive(Serialize)]
struct Clientsz {
    cluster_id: String,
    server_id: String,
    now: String,
    offset: usize,
    limit: usize,
    count: usize,
    total: usize,
    clients: Vec<Clientz>,
}

#[derive(Serialize)]
struct Clientz {
    id: String,
    hb_inbox: String,
    subs_count: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subscriptions: BTreeMap<String, Vec<Subscriptionz>>,
}

impl From<Client> for Clientz {
    fn from(client: Client) -> Self {
        let channels = client.subscriptions.into_iter();
        Self {
            id: client.id.to_string(),
            hb_inbox: client.heartbeat_inbox,
            subs_count: client.subscription_count,
            subscriptions: channels
                .map(|(channel, subscriptions)| (channel.to_string(), listed(subscriptions)))
                .collect(),
        }
    }
}

pub(super) async fn clientsz(State(source): State<Source>, Asked(query): Asked<Query>) -> Response {
    let callback = Callback::of(&query);
    match named(&query, "client") {
        Some(id) => one(&source, id, wants_subscriptions(&query), &callback).await,
        None => list(&source, Paging::of(&query), &callback).await,
    }
}

async fn one(source: &Source, id: &str, subscriptions: bool, callback: &Callback) -> Response {
    let question = Question::Client {
        id: id.to_owned(),
        subscriptions,
    };
    let items = match source.reports.ask(question).await {
        Ok(Page::Clients(items)) => items.items,
        Ok(Page::Channels(_)) => Vec::new(),
        Err(why) => {
            return failed(&format!(
                "Error getting information about client {id:?}: {why}"
            ));
        }
    };
    match items.into_iter().next() {
        Some(client) => json(StatusCode::OK, &Clientz::from(client), callback),
        None => not_found(&format!("Client {id} not found")),
    }
}

async fn list(source: &Source, paging: Paging, callback: &Callback) -> Response {
    let (items, total) = match paging::clients(&source.reports, paging).await {
        Ok(list) => list,
        Err(why) => return failed(&format!("Error getting information about clients: {why}")),
    };
    let view = source.view();
    let page = Clientsz {
        cluster_id: view.status.cluster_id,
        server_id: view.status.server_id,
        now: time(view.now.wall),
        offset: paging.offset,
        limit: paging.limit,
        count: items.len(),
        total,
        clients: items.into_iter().map(Clientz::from).collect(),
    };
    json(StatusCode::OK, &page, callback)
}
