//! `/streaming/clientsz`.

use std::collections::BTreeMap;

use axum::extract::{Query as Asked, State};
use axum::response::Response;
use serde::{Serialize, Serializer};

use super::answer_budget::in_turn;
use super::format::{Callback, failed, large, not_found, time};
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
    #[serde(serialize_with = "each")]
    clients: Vec<Client>,
}

/// One by one: they may be many.
fn each<S: Serializer>(clients: &[Client], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(clients.iter().map(|client| Clientz::from(client.clone())))
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
    let budget = source.shared.answer_budget.clone();
    let Some(turn) = budget.list().await else {
        return budget.refuse();
    };
    let callback = Callback::of(&query);
    let response = match named(&query, "client") {
        Some(name) => one(&source, name, wants_subscriptions(&query), callback).await,
        None => list(&source, Paging::of(&query), callback).await,
    };
    in_turn(turn, response)
}

async fn one(source: &Source, id: &str, subscriptions: bool, callback: Callback) -> Response {
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
        Some(client) => large(move || Clientz::from(client), callback).await,
        None => not_found(&format!("Client {id} not found")),
    }
}

async fn list(source: &Source, paging: Paging, callback: Callback) -> Response {
    let (items, total) = match paging::clients(&source.reports, paging).await {
        Ok(list) => list,
        Err(why) => return failed(&format!("Error getting information about clients: {why}")),
    };
    let view = source.view();
    let page = move || Clientsz {
        cluster_id: view.status.cluster_id,
        server_id: view.status.server_id,
        now: time(view.now.wall),
        offset: paging.offset,
        limit: paging.limit,
        count: items.len(),
        total,
        clients: items,
    };
    large(page, callback).await
}
