//! Draws the model: who is active, the rows, and the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::model::{List, Model, Sample};
use crate::cli::show::durables::name;
use crate::cli::show::{Column, Grid, bytes, cut, duration, shown};

const KEYS: &str = "q quit  Tab channels/durables  s sort  r reverse  / filter  ↑↓ scroll";

pub(super) fn draw(model: &mut Model, frame: &mut Frame<'_>) {
    let areas = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, body, foot] = areas.areas(frame.area());
    let width = usize::from(frame.area().width);
    frame.render_widget(Paragraph::new(header(model, width)), head);

    let text = rows(model, width);
    let mut lines = text.lines();
    let title = Line::styled(
        lines.next().unwrap_or_default().to_owned(),
        Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
    );
    let room = usize::from(body.height).saturating_sub(1);
    model.scrolled = model.scrolled.min(model.row_count().saturating_sub(room));
    let shown_rows = lines
        .skip(model.scrolled)
        .take(room)
        .map(|line| Line::styled(line.to_owned(), style(line)));
    let all: Vec<Line<'_>> = std::iter::once(title).chain(shown_rows).collect();
    frame.render_widget(Paragraph::new(all), body);

    let keys = if model.is_typing {
        format!(
            "filter: {}▏ Enter keeps it, Esc drops it",
            shown(&model.filter)
        )
    } else {
        KEYS.to_owned()
    };
    frame.render_widget(
        Paragraph::new(Line::styled(
            keys,
            Style::new().add_modifier(Modifier::REVERSED),
        )),
        foot,
    );
}

fn style(line: &str) -> Style {
    let is_noteworthy = [" stalled ", " offline ", " paused "]
        .iter()
        .any(|status| line.contains(status));
    if is_noteworthy {
        Style::new().fg(Color::Yellow)
    } else {
        Style::new()
    }
}

fn header(model: &Model, width: usize) -> Vec<Line<'static>> {
    let who = model
        .now
        .as_ref()
        .map_or_else(|| "reading the tables".to_owned(), who);
    let is_bad = model.error.is_some() || model.now.as_ref().is_some_and(|it| !is_served(it));
    let color = if is_bad { Color::Red } else { Color::Green };
    let list = match model.list {
        List::Channels => "channels",
        List::Durables => "durables",
    };
    let filter = if model.filter.is_empty() {
        String::new()
    } else {
        format!(", filter {:?}", shown(&model.filter))
    };
    let reversed = if model.is_reversed { " reversed" } else { "" };
    let what = format!(
        "{} {list}, by {}{reversed}{filter}",
        model.row_count(),
        model.sort.name()
    );
    let error = model
        .error
        .as_deref()
        .map(|why| format!("old: {}", shown(why)));
    vec![
        Line::from(vec![
            Span::styled("stanby ", Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(cut(&who, width.saturating_sub(7)), Style::new().fg(color)),
        ]),
        Line::raw(cut(&what, width)),
        Line::styled(
            cut(&error.unwrap_or_default(), width),
            Style::new().fg(Color::Red),
        ),
    ]
}

fn is_served(sample: &Sample) -> bool {
    sample
        .roles
        .active
        .as_ref()
        .is_some_and(|active| active.holds_lock)
}

/// Who is active, in a line.
pub(super) fn who(sample: &Sample) -> String {
    let standbys = match sample.roles.standbys.len() {
        0 => "no standby".to_owned(),
        1 => "1 standby".to_owned(),
        count => format!("{count} standbys"),
    };
    match &sample.roles.active {
        Some(active) if active.holds_lock => format!(
            "active {} epoch {}{}, {standbys}",
            shown(&active.holder),
            active.epoch,
            active
                .host
                .as_deref()
                .map_or_else(String::new, |host| format!(" on {}", shown(host)))
        ),
        Some(active) => format!(
            "nobody is active; the last was {}, {standbys}",
            shown(&active.holder)
        ),
        None => format!("nobody was ever active, {standbys}"),
    }
}

/// A header and the rows.
pub(super) fn rows(model: &Model, width: usize) -> String {
    match model.list {
        List::Channels => {
            let columns = [
                Column::text("CHANNEL"),
                Column::number("MSG/S"),
                Column::number("MESSAGES"),
                Column::number("BYTES"),
                Column::number("SUBS"),
                Column::number("LAG"),
                Column::number("BEHIND"),
            ];
            let rows = model.channels().into_iter().map(|(it, rate)| {
                [
                    shown(&it.channel),
                    format!("{rate:.1}"),
                    it.messages.to_string(),
                    bytes(it.bytes),
                    it.subscriptions.to_string(),
                    it.lag.to_string(),
                    duration(it.behind_seconds),
                ]
            });
            Grid::new(columns, rows).text(width)
        }
        List::Durables => {
            let columns = [
                Column::text("DURABLE"),
                Column::text("CHANNEL"),
                Column::word("STATUS"),
                Column::number("ACKS/S"),
                Column::number("LAG"),
                Column::number("FLIGHT"),
                Column::number("BEHIND"),
                Column::text("WHY"),
            ];
            let rows = model.durables().into_iter().map(|(it, rate)| {
                [
                    name(it),
                    shown(&it.channel),
                    it.status.clone(),
                    format!("{rate:.1}"),
                    it.lag.to_string(),
                    it.in_flight.to_string(),
                    duration(it.behind_seconds),
                    shown(&it.why),
                ]
            });
            Grid::new(columns, rows).text(width)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::tests::sample;
    use super::*;

    fn screen(model: &mut Model) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(model, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(80);
        lines
            .map(|cells| cells.iter().map(ratatui::buffer::Cell::symbol).collect())
            .collect()
    }

    #[test]
    fn a_screen_of_80_by_24_shows_who_is_active_the_rows_and_the_keys() {
        let names: Vec<String> = (0..50).map(|n| format!("channel-{n:02}")).collect();
        let rows: Vec<(&str, u64, i64)> = names.iter().map(|name| (name.as_str(), 10, 0)).collect();
        let mut model = Model::default();
        model.take(sample(&rows), Duration::ZERO);

        let text = screen(&mut model);
        assert!(text[0].contains("nobody was ever active"), "{text:?}");
        assert!(text[3].starts_with("CHANNEL"), "{text:?}");
        assert!(text[4].starts_with("channel-00"), "{text:?}");
        assert!(text[23].contains("q quit"), "{text:?}");

        // Never past the last row.
        model.scrolled = 1000;
        let text = screen(&mut model);
        assert!(text[22].starts_with("channel-49"), "{text:?}");
        model.error = Some("the database is away".to_owned());
        assert!(screen(&mut model)[2].contains("the database is away"));
    }
}
