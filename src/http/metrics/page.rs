//! The page: what the status says, and on the active one series or more for each channel and subscription.

use std::fmt;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::kinds::gauge;
use super::{exporter, ours, pages, plain, series};
use crate::core::report::Channel;
use crate::http::answer_budget::in_turn;
use crate::http::paging::{self, Paging};
use crate::http::view::Source;
use crate::monitoring::reports::Behind;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Channels and their subscriptions. A page with more would be of no use to anybody.
const ENTRIES_MAX: usize = 20_000;

pub(in crate::http) async fn metrics(State(source): State<Source>, headers: HeaderMap) -> Response {
    let turn = source.shared.answer_budget.metrics().await;
    let mut channels = Vec::new();
    let mut behind = Vec::new();
    let mut left_out = 0;
    // A standby has none, so that sums over a pair count nothing twice.
    if source.fresh_view().await.is_active() {
        let all = Paging {
            offset: 0,
            limit: ENTRIES_MAX,
            subscriptions: true,
            entries_max: ENTRIES_MAX,
        };
        // Without them the rest is reported nevertheless: that is when it is needed.
        let listed = match &turn {
            Some(_) => paging::channels(&source.reports, all).await.ok(),
            None => None,
        };
        match listed {
            Some((listed, total)) => {
                left_out = total.saturating_sub(listed.len());
                channels = listed;
                behind = source.reports.behind().await;
            }
            None => left_out = source.view().status.counts.channels,
        }
    }
    let is_open = asks_for_open_metrics(&headers);
    let made = tokio::task::spawn_blocking(move || {
        if !source.view().is_active() {
            channels.clear();
            behind.clear();
        }
        let text = render(&source, &channels, &behind, left_out)?;
        Ok::<_, fmt::Error>(if is_open {
            (OPEN_METRICS, text)
        } else {
            (plain::CONTENT_TYPE, plain::from_open_metrics(&text))
        })
    });
    let response = match made.await {
        Ok(Ok((content_type, text))) => {
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Ok(Err(fmt::Error)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    match turn {
        Some(turn) => in_turn(turn, response),
        None => response,
    }
}

/// Prometheus does; agents that read nothing but its older format do not, and would read nothing at all.
fn asks_for_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"))
}

fn render(
    source: &Source,
    channels: &[Channel],
    behind: &[Behind],
    left_out: usize,
) -> Result<String, fmt::Error> {
    let view = &source.view();
    let mut registry = Registry::default();
    let stanby = registry.sub_registry_with_prefix("stanby");
    ours::register(stanby, view, source.reports.pool());
    pages::register(stanby, &source.shared);
    let help = "Channels that this page has no series for";
    gauge(stanby, "channels_left_out", help, left_out as u64);
    series::register(stanby, channels);
    series::behind(stanby, behind);
    let server_id = ("server_id".into(), view.status.server_id.clone().into());
    let theirs = registry.sub_registry_with_label(server_id);
    exporter::register(theirs.sub_registry_with_prefix("nss_server"), view);
    exporter::info(theirs.sub_registry_with_prefix("nss"), view);
    exporter::channels(theirs.sub_registry_with_prefix("nss_chan"), view, channels);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
