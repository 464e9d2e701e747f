//! Metrics made of plain numbers, for one answer.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::monitoring::histogram::Histogram;
use crate::printable;

pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Gauges = Family<Labels, Gauge>;
pub(super) type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;

pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

pub(super) fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

pub(super) fn seconds(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge: Gauge<f64, AtomicU64> = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

pub(super) fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

/// The label for a name that strangers have chosen.
pub(super) fn label(name: &str) -> String {
    printable::label(name).into_owned()
}

pub(super) fn set(family: &Gauges, labels: &Labels, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    family.get_or_create(labels).set(value);
}

pub(super) fn histogram(registry: &mut Registry, name: &str, help: &str, value: Histogram) {
    registry.register(name, help, Counted(value));
}

#[derive(Debug)]
struct Counted(Histogram);

impl EncodeMetric for Counted {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let buckets: Vec<(f64, u64)> = self.0.buckets().collect();
        let (sum, count) = (self.0.sum(), self.0.count());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
