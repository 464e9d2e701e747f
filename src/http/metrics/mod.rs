//! `/metrics`, as `OpenMetrics` for who asks for it, else in the text format of Prometheus.
//!
//! | file | what |
//! |---|---|
//! | [`page`] | puts it together |
//! | `ours` | the node |
//! | `series` | channels and durables, on the active |
//! | `pages` | the pages themselves: who is connected to them |
//! | `exporter` | the names that dashboards of NATS Streaming were made for |
//! | `plain` | from the one format to the other |
//! | `kinds` | gauges, counters, histograms |

mod exporter;
mod kinds;
mod ours;
pub(super) mod page;
mod pages;
mod plain;
mod series;
