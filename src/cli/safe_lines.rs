//! What keeps log lines whole: every field is written without characters that could begin another line or steer a
//! terminal, whoever chose its text and wherever it is logged.

use std::fmt;
use std::io::{self, Write};

use tracing::Metadata;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

use crate::printable;

/// The fields of text lines. The line's own colours are not among them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SafeFields;

impl<'w> FormatFields<'w> for SafeFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut lines = printable::Lines(&mut writer);
        DefaultFields::new().format_fields(Writer::new(&mut lines), fields)
    }
}

/// Lines of JSON, whose own escapes leave out what is not ASCII.
#[derive(Debug)]
pub(super) struct SafeJson<M>(pub(super) M);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for SafeJson<M> {
    type Writer = SafeJsonLine<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        SafeJsonLine(self.0.make_writer())
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        SafeJsonLine(self.0.make_writer_for(metadata))
    }
}

/// Gets whole lines.
#[derive(Debug)]
pub(super) struct SafeJsonLine<W>(W);

impl<W: Write> Write for SafeJsonLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(printable::json(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
