//! Limits of a former server, from its file and flags.

use std::ffi::OsString;
use std::path::Path;

use super::duration::GoDuration;
use super::error::Error;
use super::file::{self, Found, Part};
use super::limits::limits;
use super::size::Size;
use super::sources;
use crate::core::limits::Limits;

/// What is given of them. A flag goes before the file.
#[derive(Clone, Copy, Debug)]
pub struct FormerLimits<'a> {
    pub file: Option<&'a Path>,
    pub messages: Option<i64>,
    pub bytes: Option<Size>,
    pub age: Option<GoDuration>,
}

impl FormerLimits<'_> {
    /// `None` when nothing is given. What a file does not say is the former server's default; without a file it is
    /// unlimited.
    pub fn read(&self) -> Result<Option<Limits>, Error> {
        let is_given = self.messages.is_some() || self.bytes.is_some() || self.age.is_some();
        if self.file.is_none() && !is_given {
            return Ok(None);
        }
        let found = match self.file {
            Some(file) => file::read(file, Part::Both)?,
            None => Found::default(),
        };
        let settings = found.settings.iter();
        let of_limits = settings.filter(|setting| setting.flag.starts_with("max-"));
        let args: Vec<OsString> = of_limits.map(sources::as_arg).collect();
        let mut flags = sources::flags_alone(&args)?;
        flags.channels_of_file = found.channels;
        let unlimited = |given: Option<i64>| given.or(self.file.is_none().then_some(0));
        flags.max_msgs = self.messages.or(unlimited(flags.max_msgs));
        flags.max_bytes = self
            .bytes
            .or(unlimited(flags.max_bytes.map(|size| size.0)).map(Size));
        flags.max_age = self.age.or(flags.max_age);
        limits(&flags).map(Some)
    }
}
