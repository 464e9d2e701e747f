//! Channels as lines of JSON, and back: `stanby export --channel` and `stanby import --ndjson`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, stdin};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::output;
use super::payload::{self, Encoding};
use super::publish;
use super::show::look::find_channel;
use super::show::messages::{Line, open};
use super::show::pages::Pages;
use super::signals::Signals;
use super::status::read_failure;
use crate::config::encryption::EncryptionFlags;
use crate::config::{DatabaseUrl, NatsFlags, TablesFlags};
use crate::core::ids::{ChannelName, ClientId, Guid, Sequence};
use crate::store::Store;
use crate::store::refill::{Refilled, Row};

/// Messages that are written at once.
const PAGE_MESSAGES: usize = 1000;
const PAGE_BYTES: usize = 8 << 20;

/// A line is a message in base64 and some.
const LINE_BYTES_MAX: u64 = 100 << 20;

const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);

/// Every message of the channels, as it was published.
pub(super) async fn export(
    channels: &[String],
    tables: &TablesFlags,
    encryption: &EncryptionFlags,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let work = async {
        let store = open(tables, encryption).await?;
        let mut total = 0;
        // Before the first line, whether there are all of them.
        let mut found = Vec::new();
        for name in channels {
            found.push(find_channel(&store, name).await?);
        }
        for channel in found {
            let mut pages = Pages::new(
                &store,
                channel.id(),
                channel.first_sequence,
                channel.last_sequence,
            );
            while let Some((messages, unreadable)) = pages.next().await? {
                if let Some(it) = unreadable.first() {
                    return Err(Failure::Failed(anyhow!(
                        "channel {:?}, message {}: {}; what follows is not exported",
                        channel.channel,
                        it.sequence.0,
                        it.why
                    )));
                }
                for message in &messages {
                    let line = Line::new(&channel.channel, message, Encoding::Base64);
                    output::line_when_taken(output::json_text(&line)?).await?;
                    total += 1;
                }
            }
        }
        store.close().await;
        output::note(&format!(
            "exported channels: {}, messages: {total}",
            channels.len()
        ));
        Ok(())
    };
    let done = tokio::select! {
        done = signals.unless_stopped(work) => done,
        gone = output::reader_gone() => return Err(gone),
    };
    match done {
        Ok(done) => done.map(|()| ExitCode::SUCCESS),
        // Half of a file is no success.
        Err(_) => Err(Failure::Failed(anyhow!(
            "it was stopped before everything was exported"
        ))),
    }
}

/// What an import does beside reading the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printed {
    /// Nothing is written or published.
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// Restores sequences and times, while no server is active.
pub(super) async fn import(
    file: &Path,
    url: &DatabaseUrl,
    schema: &str,
    printed: Printed,
) -> Result<ExitCode, Failure> {
    let mut lines = Lines::open(file)?;
    let store = Store::open(url, schema, "stanby/import", STATEMENT_TIMEOUT);
    let filled = store.refill(|| lines.page(), printed.dry_run).await;
    store.close().await;
    // What is wrong with a line is wrong with what was given.
    let filled = filled.map_err(|error| {
        if lines.is_wrong {
            Failure::Usage(anyhow!("{error}"))
        } else {
            read_failure(error)
        }
    })?;
    if printed.json {
        output::json(&filled)?;
    } else {
        let would = if printed.dry_run { "would hold " } else { "" };
        let of = |it: &Refilled| {
            format!(
                "{}: {would}{} messages, sequences {} to {}",
                output::name_from_outside(&it.channel),
                it.messages,
                it.first_sequence,
                it.last_sequence
            )
        };
        let mut texts: Vec<String> = filled.iter().map(of).collect();
        if printed.dry_run && !texts.is_empty() {
            texts.push("nothing was written".to_owned());
        }
        output::line(&if texts.is_empty() {
            "the file holds no messages".to_owned()
        } else {
            texts.join("\n")
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Publishes the messages of each channel in their order, once the whole file is known to be right.
pub(super) async fn republish(
    file: &Path,
    nats: &NatsFlags,
    printed: Printed,
) -> Result<ExitCode, Failure> {
    if file == Path::new("-") {
        return Err(Failure::Usage(anyhow!(
            "--republish reads the file more than once; name a file"
        )));
    }
    let mut lines = Lines::open(file)?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        match lines.page() {
            Ok(Some(page)) => {
                if let Some(row) = page.first() {
                    *counts.entry(row.channel.clone()).or_default() += page.len();
                }
            }
            Ok(None) => break,
            Err(why) => return Err(Failure::Usage(anyhow!("{why:#}; nothing was published"))),
        }
    }
    if !printed.dry_run {
        for channel in counts.keys() {
            let code = publish::republish(file, channel, nats).await?;
            if code != ExitCode::SUCCESS {
                return Ok(code);
            }
        }
    }
    if printed.json {
        let counts = counts.into_iter();
        let counts = counts.map(|(channel, messages)| Republished { channel, messages });
        output::json(&counts.collect::<Vec<_>>())?;
    } else if printed.dry_run {
        for (channel, messages) in &counts {
            let channel = output::name_from_outside(channel);
            output::line(&format!("{channel}: would publish {messages} messages"))?;
        }
        output::line("nothing was published")?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Republished {
    channel: String,
    messages: usize,
}

#[derive(Deserialize)]
struct Published {
    channel: String,
    sequence: i64,
    timestamp: i64,
    client_id: String,
    guid: String,
    #[serde(default)]
    reply: String,
}

struct Lines {
    input: Box<dyn std::io::BufRead + Send>,
    name: String,
    number: u64,
    /// The last sequence of each channel and its time.
    last: BTreeMap<String, (i64, i64)>,
    /// Channels by their names without case.
    folded: BTreeMap<String, String>,
    /// Read, and not part of the page before.
    kept: Option<Row>,
    /// Something in the file cannot be.
    is_wrong: bool,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let input: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(stdin())
        } else {
            Box::new(
                File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?,
            )
        };
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        Ok(Self::new(Box::new(BufReader::new(input)), name))
    }

    fn new(input: Box<dyn std::io::BufRead + Send>, name: String) -> Self {
        Self {
            input,
            name,
            number: 0,
            last: BTreeMap::new(),
            folded: BTreeMap::new(),
            kept: None,
            is_wrong: false,
        }
    }

    /// Messages of one channel, in their order.
    fn page(&mut self) -> anyhow::Result<Option<Vec<Row>>> {
        let mut page: Vec<Row> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = self.row()? {
            if page
                .first()
                .is_some_and(|first| first.channel != row.channel)
            {
                self.kept = Some(row);
                break;
            }
            bytes += row.data.len();
            page.push(row);
            if page.len() >= PAGE_MESSAGES || bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }

    fn row(&mut self) -> anyhow::Result<Option<Row>> {
        if let Some(row) = self.kept.take() {
            return Ok(Some(row));
        }
        loop {
            let mut line = String::new();
            self.number += 1;
            let read = (&mut self.input).take(LINE_BYTES_MAX).read_line(&mut line);
            let read = read.with_context(|| {
                self.is_wrong = true;
                format!("line {} of {} cannot be read", self.number, self.name)
            })?;
            if read == 0 {
                return Ok(None);
            }
            if self.number == 1 && line.as_bytes().starts_with(payload::BYTE_ORDER_MARK) {
                line.drain(..payload::BYTE_ORDER_MARK.len());
            }
            if line.trim().is_empty() {
                continue;
            }
            let row = self.checked(&line).with_context(|| {
                self.is_wrong = true;
                format!("line {} of {}", self.number, self.name)
            })?;
            self.last
                .insert(row.channel.clone(), (row.sequence, row.published_at));
            return Ok(Some(row));
        }
    }

    fn checked(&mut self, line: &str) -> anyhow::Result<Row> {
        let wrong = |error: serde_json::Error| anyhow!(payload::describe(&error));
        let payload = payload::of_line(line.as_bytes()).map_err(wrong)?;
        let read: Published = serde_json::from_str(line).map_err(wrong)?;
        let Some(channel) = ChannelName::parse(read.channel.as_str().into()) else {
            bail!("{:?} is no channel name", read.channel);
        };
        let folded = self.folded.entry(channel.folded());
        let other = folded.or_insert_with(|| read.channel.clone());
        if *other != read.channel {
            bail!(
                "channel {:?} differs from channel {other:?} only in the case of letters",
                read.channel
            );
        }
        if ClientId::parse(read.client_id.as_str().into()).is_none() {
            bail!("{:?} is no client ID", read.client_id);
        }
        if Guid::parse(read.guid.as_str().into()).is_none() {
            bail!("{:?} is no GUID", read.guid);
        }
        if read.sequence < 1 || read.timestamp < 0 || read.reply.contains('\0') {
            bail!(
                "sequences begin with 1, timestamps are nanoseconds since 1970, and replies are text"
            );
        }
        if read.sequence.cast_unsigned() > Sequence::LAST.0 {
            bail!(
                "message {}: no sequence is higher than {}",
                read.sequence,
                Sequence::LAST
            );
        }
        if let Some((sequence, time)) = self.last.get(&read.channel)
            && (read.sequence <= *sequence || read.timestamp < *time)
        {
            bail!(
                "message {} comes after {sequence}: sequences have to grow, and times must not decrease",
                read.sequence
            );
        }
        Ok(Row {
            channel: read.channel,
            sequence: read.sequence,
            published_at: read.timestamp,
            client_id: read.client_id,
            guid: read.guid,
            reply: read.reply,
            data: payload.into_bytes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(channel: &str, sequence: i64, time: i64) -> String {
        format!(
            "{{\"channel\":\"{channel}\",\"sequence\":{sequence},\"timestamp\":{time},\"client_id\":\"c\",\"guid\":\"g\",\
             \"data\":\"x\"}}\n"
        )
    }

    fn pages(text: String) -> anyhow::Result<Vec<usize>> {
        let mut lines = Lines::new(Box::new(std::io::Cursor::new(text)), "f".to_owned());
        let mut counts = Vec::new();
        while let Some(page) = lines.page()? {
            counts.push(page.len());
        }
        Ok(counts)
    }

    #[test]
    fn a_page_is_of_one_channel_and_a_wrong_line_is_named_by_its_number() {
        let good = [
            line("a", 1, 1),
            "\n".to_owned(),
            line("a", 3, 1),
            line("b", 1, 5),
            line("a", 4, 2),
        ]
        .concat();
        assert_eq!(pages(good.clone()).unwrap(), [2, 1, 1]);
        for (wrong, part) in [
            ("{".to_owned(), "line 6 of f: EOF"),
            (line("a", 4, 9), "line 6 of f: message 4 comes after 4"),
            (line("a", 5, 1), "times must not decrease"),
            (line("a b..c", 1, 1), "is no channel name"),
            (
                line("B", 1, 1),
                "line 6 of f: channel \"B\" differs from channel \"b\" only in the case",
            ),
            (line("c", 0, 1), "sequences begin with 1"),
            (
                line("c", i64::MAX, 1),
                "line 6 of f: message 9223372036854775807: no sequence is higher than",
            ),
            (
                line("c", 1, 1).replace("\"data\":\"x\"", "\"data_base64\":\"?\""),
                "data_base64 is no base64",
            ),
        ] {
            let error = pages(format!("{good}{wrong}")).unwrap_err();
            let message = format!("{error:#}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_wrong_line_has_one_number() {
        for wrong in ["{", "{\"channel\":\"a\",\"data\":\"x\"}\n", "[1]"] {
            let error = pages([&line("a", 1, 1), wrong].concat()).unwrap_err();
            let message = format!("{error:#}");
            assert!(message.starts_with("line 2 of f: "), "{message}");
            assert_eq!(message.matches("line ").count(), 1, "{message}");
        }
    }

    #[test]
    fn a_byte_order_mark_at_the_start_of_a_file_is_passed_over() {
        let marked = format!("\u{feff}{}", line("a", 1, 1));
        assert_eq!(pages(marked.clone()).unwrap(), [1]);
        assert!(pages([line("a", 1, 1), marked.replace(":1,", ":2,")].concat()).is_err());
    }
}
