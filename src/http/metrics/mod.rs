//! `/metrics`, in the text format of `OpenMetrics`.
//!
//! | file | what |
//! |---|---|
//! | [`page`] | puts it together |
//! | `ours` | the node |
//! | `series` | channels and durables, on the active |
//! | `exporter` | the names that dashboards of NATS Streaming were made for |
//! | `kinds` | gauges, counters, histograms |

mod exporter;
mod kinds;
mod ours;
pub(super) mod page;
mod series;
