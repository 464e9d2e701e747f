//! The page: what the status says, and on the active one series or more for each channel and subscription.

use std::fmt;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::kinds::gauge;
use super::{exporter, ours, plain, series};
use crate::core::report::Channel;
use crate::http::paging::{self, Paging};
use crate::http::view::{Source, View};
use crate::node::reports::PoolUse;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page with more would be of no use to anybody.
const CHANNELS_MAX: usize = 20_000;

pub(in crate::http) async fn metrics(State(source): State<Source>, headers: HeaderMap) -> Response {
    let mut channels = Vec::new();
    let mut left_out = 0;
    // A standby has none, so that sums over a pair count nothing twice.
    if source.view().is_active() {
        let all = Paging {
            offset: 0,
            limit: CHANNELS_MAX,
            subscriptions: true,
        };
        // Without them the rest is told nevertheless: that is when it is needed.
        match paging::channels(&source.reports, all).await {
            Ok((listed, total)) => {
                left_out = total.saturating_sub(listed.len());
                channels = listed;
            }
            Err(_) => left_out = source.view().status.counts.channels,
        }
    }
    let view = source.view();
    let active = if view.is_active() {
        channels.as_slice()
    } else {
        &[]
    };
    match render(&view, source.reports.pool(), active, left_out) {
        Ok(text) if asks_for_open_metrics(&headers) => {
            ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
        }
        Ok(text) => {
            let content_type = [(header::CONTENT_TYPE, plain::CONTENT_TYPE)];
            (content_type, plain::from_open_metrics(&text)).into_response()
        }
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
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
    view: &View,
    pool: PoolUse,
    channels: &[Channel],
    left_out: usize,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let stanby = registry.sub_registry_with_prefix("stanby");
    ours::register(stanby, view, pool);
    let help = "Channels that this page has no series for";
    gauge(stanby, "channels_left_out", help, left_out as u64);
    series::register(stanby, channels);
    let server_id = ("server_id".into(), view.status.server_id.clone().into());
    let theirs = registry.sub_registry_with_label(server_id);
    exporter::register(theirs.sub_registry_with_prefix("nss_server"), view);
    exporter::info(theirs.sub_registry_with_prefix("nss"), view);
    exporter::channels(theirs.sub_registry_with_prefix("nss_chan"), view, channels);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
