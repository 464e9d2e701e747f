//! `stanby bench report`: runs as one HTML page that needs nothing else: plots are SVG, there is no script.

mod command;
mod page;
mod plot;

pub(super) use command::{ReportArgs, run};
