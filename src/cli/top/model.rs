//! What the screen shows: two samples of the tables, and which rows in which order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::show::durables::has;
use crate::store::status::Roles;
use crate::store::views::{Channel, Durable};

/// Everything of one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) roles: Roles,
    pub(super) channels: Vec<Channel>,
    pub(super) durables: Vec<Durable>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum List {
    #[default]
    Channels,
    Durables,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    #[default]
    Lag,
    Rate,
    Behind,
    Name,
    Messages,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Lag => Self::Rate,
            Self::Rate => Self::Behind,
            Self::Behind => Self::Name,
            Self::Name => Self::Messages,
            Self::Messages => Self::Lag,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Rate => "rate",
            Self::Behind => "behind",
            Self::Name => "name",
            Self::Messages => "messages",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) list: List,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    /// Rows above the first that is shown.
    pub(super) scrolled: usize,
    pub(super) now: Option<Sample>,
    /// Why the tables cannot be read at the moment; what is shown is older.
    pub(super) error: Option<String>,
    /// Per second, since the sample before, by name.
    pub(super) rates: BTreeMap<String, f64>,
}

impl Model {
    /// `since` the sample before.
    pub(super) fn take(&mut self, sample: Sample, since: Duration) {
        if let Some(before) = &self.now {
            let (before, now) = (counts(before), counts(&sample));
            let seconds = since.as_secs_f64().max(0.001);
            let rate = |(name, count): (&String, &u64)| {
                let before = before.get(name)?;
                #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
                let more = count.saturating_sub(*before) as f64;
                Some((name.clone(), more / seconds))
            };
            self.rates = now.iter().filter_map(rate).collect();
        }
        self.now = Some(sample);
        self.error = None;
    }

    pub(super) fn channels(&self) -> Vec<(&Channel, f64)> {
        let all = self.now.iter().flat_map(|sample| &sample.channels);
        let mut rows: Vec<_> = all
            .filter(|it| it.channel.contains(&self.filter))
            .map(|it| (it, self.rate(&it.channel)))
            .collect();
        rows.sort_by(|(a, a_rate), (b, b_rate)| {
            let order = match self.sort {
                Sort::Lag => b.lag.cmp(&a.lag),
                Sort::Rate => b_rate.total_cmp(a_rate),
                Sort::Behind => b.behind_seconds.total_cmp(&a.behind_seconds),
                Sort::Name => Ordering::Equal,
                Sort::Messages => b.messages.cmp(&a.messages),
            };
            self.reversed(order.then_with(|| a.channel.cmp(&b.channel)))
        });
        rows
    }

    /// The rate is that of acks.
    pub(super) fn durables(&self) -> Vec<(&Durable, f64)> {
        let all = self.now.iter().flat_map(|sample| &sample.durables);
        let mut rows: Vec<_> = all
            .filter(|it| has(it, &self.filter))
            .map(|it| (it, self.rate(&key(it))))
            .collect();
        rows.sort_by(|(a, a_rate), (b, b_rate)| {
            let order = match self.sort {
                Sort::Lag => b.lag.cmp(&a.lag),
                Sort::Rate => b_rate.total_cmp(a_rate),
                Sort::Behind => b.behind_seconds.total_cmp(&a.behind_seconds),
                Sort::Name => Ordering::Equal,
                Sort::Messages => b.in_flight.cmp(&a.in_flight),
            };
            self.reversed(order.then_with(|| key(a).cmp(&key(b))))
        });
        rows
    }

    pub(super) fn row_count(&self) -> usize {
        match self.list {
            List::Channels => self.channels().len(),
            List::Durables => self.durables().len(),
        }
    }

    fn reversed(&self, order: Ordering) -> Ordering {
        if self.is_reversed {
            order.reverse()
        } else {
            order
        }
    }

    fn rate(&self, name: &str) -> f64 {
        self.rates.get(name).copied().unwrap_or(0.0)
    }
}

/// How far each channel and each durable is.
fn counts(sample: &Sample) -> BTreeMap<String, u64> {
    let channels = sample
        .channels
        .iter()
        .map(|it| (it.channel.clone(), it.last_sequence));
    let durables = sample.durables.iter().map(|it| (key(it), it.acked_floor));
    channels.chain(durables).collect()
}

/// No channel has this name: a tab is in none.
fn key(durable: &Durable) -> String {
    let group = durable.queue_group.as_deref().unwrap_or_default();
    let clients = if group.is_empty() {
        durable.clients.as_deref().unwrap_or_default()
    } else {
        ""
    };
    format!(
        "{}\t{}\t{group}\t{clients}",
        durable.channel, durable.durable
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::top) fn sample(rows: &[(&str, u64, i64)]) -> Sample {
        let channels = rows.iter().map(|(name, last, lag)| {
            serde_json::from_value(serde_json::json!({
                "channel_id": 1, "channel": name, "status": "open", "first_sequence": 1, "last_sequence": last,
                "messages": last, "bytes": last * 100, "subscriptions": 1, "lag": lag, "behind_seconds": 1.5,
                "last_published_at": null, "created_at": null
            }))
            .unwrap()
        });
        Sample {
            roles: Roles {
                active: None,
                standbys: Vec::new(),
            },
            channels: channels.collect(),
            durables: Vec::new(),
        }
    }

    fn names(model: &Model) -> Vec<&str> {
        model
            .channels()
            .iter()
            .map(|(it, _)| it.channel.as_str())
            .collect()
    }

    #[test]
    fn rows_are_sorted_filtered_and_their_rates_are_since_the_sample_before() {
        let mut model = Model::default();
        model.take(
            sample(&[("a", 100, 5), ("b", 50, 7), ("border", 1, 0)]),
            Duration::ZERO,
        );
        assert_eq!(names(&model), ["b", "a", "border"]);
        model.take(
            sample(&[("a", 300, 5), ("b", 60, 7), ("border", 1, 0)]),
            Duration::from_secs(2),
        );
        let rates: Vec<f64> = model.channels().iter().map(|(_, rate)| *rate).collect();
        assert_eq!(rates, [5.0, 100.0, 0.0]);

        model.sort = Sort::Rate;
        assert_eq!(names(&model), ["a", "b", "border"]);
        model.is_reversed = true;
        assert_eq!(names(&model), ["border", "b", "a"]);
        model.filter = "b".to_owned();
        assert_eq!(names(&model), ["border", "b"]);
    }
}
