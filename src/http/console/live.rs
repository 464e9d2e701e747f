//! Live figures: a stream of events for each page that shows some, so many at once, each of them for a while; a browser opens
//! the next one by itself. And the task that takes the samples.

use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use maud::{Markup, html};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::plot;
use super::principal::Principal;
use super::rates::{Counters, EVERY, Sample};
use super::state::{Console, Inner};
use super::words::grouped;
use crate::clock::Clock;
use crate::monitoring::reports::Reports;
use crate::monitoring::status::Status;

/// Streams at once. Pages that get none show what they show without scripts.
pub(super) const STREAMS_MAX: usize = 32;

/// In samples.
const LOOK_FOR_OTHERS_EVERY: u32 = 4;

/// A server that ends waits so long for verbs under way.
const ACTING_LIMIT: Duration = Duration::from_secs(2);

/// Then a browser asks again, and is asked who it is.
const LASTS: Duration = Duration::from_mins(10);

impl Console {
    /// Takes a sample of what goes through the server every few seconds, until `shutdown`. Returns at once where the console
    /// is off.
    pub async fn take_samples(
        self,
        status: watch::Receiver<Status>,
        reports: Reports,
        shutdown: CancellationToken,
    ) {
        let Some(inner) = self.inner() else {
            return;
        };
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0_u32;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
            }
            reports.refresh().await;
            let now = Clock.now();
            let counters = Counters::of_active(&status.borrow(), now);
            let counters = match counters {
                None if inner.rates.is_looked_at(now) => {
                    let read = inner.views.read(async |store| store.published().await);
                    read.await.ok().map(Counters::of_tables)
                }
                counters => counters,
            };
            inner.rates.take(counters, Clock.now());
            if turn.is_multiple_of(LOOK_FOR_OTHERS_EVERY) {
                let me = status.borrow().server_id.clone();
                look_for_others(inner, &me).await;
            }
            turn = turn.wrapping_add(1);
        }
        inner.ends.cancel();
        inner.acting.close();
        // What they asked for is in the tables, and is carried out or not whoever waits.
        timeout_at(Instant::now() + ACTING_LIMIT, inner.acting.wait())
            .await
            .ok();
    }
}

/// So that a page can say where the other server is once this one does not answer any more.
async fn look_for_others(console: &Inner, me: &str) {
    let read = console
        .views
        .read(async |store| store.server_settings().await);
    let Ok(servers) = read.await else {
        return;
    };
    let running = servers
        .into_iter()
        .filter(|it| it.is_active || it.is_standby);
    let others = running.filter(|it| it.server_id != me);
    let others = others.filter_map(|it| Some((it.host, format!("{}/console", it.pages?))));
    let others = others.collect();
    *console
        .others
        .write()
        .unwrap_or_else(PoisonError::into_inner) = others;
}

struct Stream {
    samples: watch::Receiver<Option<Sample>>,
    /// Everything so far, which goes first.
    begins: Option<String>,
    until: Instant,
    ends: CancellationToken,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn stream(user: Principal) -> Response {
    let console = match user.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let Some(stream) = open(console) else {
        let headers = [(header::RETRY_AFTER, "30")];
        let why = "too many pages are live; this one shows its figures without updates\n";
        return (StatusCode::SERVICE_UNAVAILABLE, headers, why).into_response();
    };
    let body = stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from(event)),
            stream,
        ))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    (headers, Body::from_stream(body)).into_response()
}

fn open(console: &Inner) -> Option<Stream> {
    let place = console.streams.clone().try_acquire_owned().ok()?;
    let samples = console.rates.watch();
    let all = console.rates.look(Clock.now());
    let all = serde_json::to_string(&all).ok()?;
    Some(Stream {
        samples,
        begins: Some(format!("retry: 3000\nevent: all\ndata: {all}\n\n")),
        until: Instant::now() + LASTS,
        ends: console.ends.clone(),
        _place: place,
    })
}

impl Stream {
    /// `None`: it ends.
    async fn next(&mut self) -> Option<String> {
        if let Some(begins) = self.begins.take() {
            self.samples.mark_unchanged();
            return Some(begins);
        }
        let changed = timeout_at(self.until, self.samples.changed());
        tokio::select! {
            () = self.ends.cancelled() => None,
            changed = changed => {
                changed.ok()?.ok()?;
                let sample = *self.samples.borrow_and_update();
                let sample = serde_json::to_string(&sample?).ok()?;
                Some(format!("event: sample\ndata: {sample}\n\n"))
            }
        }
    }
}

/// The last quarter of an hour; a script draws it anew with each sample.
pub(super) fn shown(console: &Inner) -> Markup {
    let samples = console.rates.look(Clock.now());
    let line = |of: fn(&Sample) -> Option<f64>| samples.iter().map(of).collect::<Vec<_>>();
    let (published, delivered) = (line(|it| it.published), line(|it| it.delivered));
    let commits = line(|it| it.commit_ms);
    let last = |values: &[Option<f64>]| values.last().copied().flatten();
    let summary = format!(
        "The last 15 minutes: {} published and {} delivered per second at the end",
        rate(last(&published)),
        rate(last(&delivered))
    );
    let commit = last(&commits).map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"));
    html! {
        figure.live data-live="" {
            div.plot { (plot::lines(&[("one", &published), ("two", &delivered)], &summary)) }
            figcaption.keys {
                span.one { "published " b data-now="published" { (rate(last(&published))) } " /s" }
                span.two { "delivered " b data-now="delivered" { (rate(last(&delivered))) } " /s" }
                span { "acked " b data-now="acked" { (rate(last(&line(|it| it.acked)))) } " /s" }
                span { "commit " b data-now="commit_ms" { (commit) } }
                span { "15 minutes; – is not known at this server" }
            }
        }
    }
}

fn rate(value: Option<f64>) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and a float that is too large saturates"
    )]
    let whole = |value: f64| grouped(value.round() as u64);
    match value {
        None => "–".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.1}"),
        Some(value) => whole(value),
    }
}
