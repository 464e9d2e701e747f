//! Puts a server's configuration together: flags before the environment, the environment before files, files before
//! defaults; and keeps where each value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::ParseIntError;
use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use super::database::DatabaseUrl;
use super::encryption::KEY_VARIABLE;
use super::error::Error;
use super::file::settings::LOGIN;
use super::file::value::Entry;
use super::file::{self, Found, Part, Setting, SourcePosition};
use super::flags::{DatabaseFlags, ServeFlags};
use super::managed_nats;
use super::notes::Notes;
use super::serve::Config;

mod lone_password;
mod remarks;

/// Says where the tables are.
const DATABASE_VARIABLE: &str = "STANBY_DATABASE_URL";

/// What is there stays there.
const ANOTHER_SOURCE: &str = "the database URL (with the store SQL, what a nats-streaming-server stored there is imported by the first start)";

/// Where the value of a flag came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(SourcePosition),
    Environment(String),
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(position) => position.fmt(f),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// All sources together.
#[derive(Clone, Debug)]
pub struct Sources {
    pub flags: ServeFlags,
    pub config: Config,
    /// By the long name of the flag.
    pub origins: BTreeMap<String, Origin>,
    /// What means something else here than in nats-streaming-server.
    pub notes: Notes,
    /// About where things were said; [`Config::warnings`] has those about values.
    pub warnings: Vec<String>,
    /// About keys that nobody knows.
    pub unknown: Vec<String>,
}

impl Sources {
    /// `args` are the flags of `serve` in our spelling, without program and command. Reads the files again at
    /// each call.
    pub fn read(args: &[OsString]) -> Result<Self, Error> {
        let mut notes = Notes::default();
        let args = without_empty(without_replaced_key(args));
        let names_database = names_database(&args);
        let args = &with_source(args, names_database, &mut notes);
        let flags = flags_of(&matches(args)?)?;
        let mut found = files(&flags)?;
        notes.append(std::mem::take(&mut found.notes));
        let args = &lone_password::without(args, &flags, &mut found, &mut notes);
        let given = matches(args)?;
        let flags = flags_of(&given)?;
        let source = source_of_file(&found, &flags, names_database, &mut notes);
        drop_what_flags_replace(&mut found, &given);
        drop_source_of_other_driver(&mut found, &flags);
        let mut mistakes = std::mem::take(&mut found.mistakes);
        found
            .settings
            .retain(|setting| match ensure_parses(setting) {
                Ok(()) => true,
                Err(error) => {
                    mistakes.push(error);
                    false
                }
            });
        // Left out, it would be missing besides.
        let knows_database = mistakes.is_empty();

        let mut all: Vec<OsString> = source.into_iter().collect();
        all.extend(args.iter().cloned());
        let assembled = Assembled {
            args: &all,
            found: &found,
            login_on_line: LOGIN.iter().any(|flag| is_on_line(&given, flag)),
            login_in_file: found.settings.iter().any(Setting::is_login),
        };
        let (flags, config) = match assembled.without(None) {
            Ok(read) if mistakes.is_empty() => read,
            read => {
                let errors = read.err().unwrap_or_default();
                let errors = errors
                    .iter()
                    .filter(|error| knows_database || **error != DatabaseFlags::missing());
                mistakes.extend(errors.map(|error| assembled.blame(error)));
                return Err(Error::all(&mistakes));
            }
        };
        let origins = origins(&given, &found);
        remarks::on_store(&flags, &mut notes);
        remarks::on_polynomial(&config, origins.get("import-crc-poly"), &mut notes);
        remarks::on_login(&found, &flags, &config, &mut notes);
        remarks::on_heartbeats(&flags, &mut notes);
        if config.managed_nats.is_none() {
            let is_login = |entry: &Entry| managed_nats::names_login(entry, &config.nats);
            let keys = found.nats.iter().filter(|entry| !is_login(entry));
            keys.for_each(|entry| notes.no_effect(format!("{} ({})", entry.key, entry.position)));
            let shown = |argument: &str| {
                let of_pages = ["--tlscert=", "--tlskey="];
                config.https.is_some() && of_pages.iter().any(|it| argument.starts_with(it))
            };
            let arguments = flags.nats_server_arg.iter().filter(|it| !shown(it));
            arguments.for_each(|argument| notes.no_effect(argument.trim_start_matches("--")));
        }
        let mut warnings = Vec::new();
        if origins.get("encryption-key") == Some(&Origin::CommandLine) {
            warnings.push(format!(
                "the encryption key stands on the command line, where every user of this machine can read it; give it in \
                 {KEY_VARIABLE}, or in a configuration file"
            ));
        }
        Ok(Self {
            flags,
            config,
            origins,
            notes,
            warnings,
            unknown: found.unknown,
        })
    }

    /// What a person should know of the sources, a sentence each; `line` are the notes about the command line.
    pub fn warnings(&self, line: &Notes) -> Vec<String> {
        let mut notes = line.clone();
        notes.append(self.notes.clone());
        let notes = (!notes.is_empty()).then(|| notes.to_string());
        notes.into_iter().chain(self.warnings.clone()).collect()
    }

    pub fn origin(&self, flag: &str) -> Origin {
        self.origins.get(flag).cloned().unwrap_or(Origin::Default)
    }
}

/// The encryption key of the environment takes precedence over the one on the command line: as in NATS Streaming, and because an
/// old start line must not undo a change of keys.
fn without_replaced_key(args: &[OsString]) -> Vec<OsString> {
    let is_in_environment = std::env::var_os(KEY_VARIABLE).is_some_and(|key| !key.is_empty());
    let is_key = |arg: &OsString| arg.to_string_lossy().starts_with("--encryption-key=");
    let kept = args
        .iter()
        .filter(|arg| !(is_in_environment && is_key(arg)));
    kept.cloned().collect()
}

/// Given without a value, they say nothing: what stands in a file counts.
fn without_empty(args: Vec<OsString>) -> Vec<OsString> {
    let names = LOGIN.iter().chain(&["encryption-key", "sql-source"]);
    let empty: Vec<String> = names.map(|name| format!("--{name}=")).collect();
    let kept = args
        .into_iter()
        .filter(|arg| !empty.iter().any(|it| arg == it.as_str()));
    kept.collect()
}

/// Says where the tables are, beside whatever the former server was given: it is what was added to an old start line.
fn names_database(args: &[OsString]) -> bool {
    let is_in_environment = std::env::var_os(DATABASE_VARIABLE).is_some_and(|url| !url.is_empty());
    let is_database = |arg: &OsString| arg.to_string_lossy().starts_with("--database-url=");
    is_in_environment || args.iter().any(is_database)
}

/// The source of the former server's SQL store is where the tables are, unless that is said otherwise.
fn with_source(args: Vec<OsString>, names_database: bool, notes: &mut Notes) -> Vec<OsString> {
    let driver = args.iter().rev().find_map(|arg| {
        let driver = arg.to_str()?.strip_prefix("--sql-driver=")?;
        Some(driver.to_owned())
    });
    let is_elsewhere = is_other_than_postgres(driver.as_deref());
    let mut kept = Vec::new();
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        match text.strip_prefix("--sql-source=") {
            Some(_) if names_database && !is_elsewhere => {
                notes.replaced("-sql_source", ANOTHER_SOURCE);
                kept.push(arg);
            }
            Some(_) if is_elsewhere => kept.push(arg),
            Some(source) => kept.push(format!("--database-url={source}").into()),
            None => kept.push(arg),
        }
    }
    kept
}

/// The start is refused for that. What its source lacks of a Postgres URL is no mistake besides.
fn drop_source_of_other_driver(found: &mut Found, line: &ServeFlags) {
    let of_file = found.settings.iter().find(|it| it.flag == "sql-driver");
    let driver = line.sql_driver.as_deref();
    let driver = driver.or(of_file.map(|it| it.text.as_str()));
    if is_other_than_postgres(driver) {
        let settings = &mut found.settings;
        settings.retain(|it| it.flag != "database-url" || DatabaseUrl::parse(&it.text).is_ok());
    }
}

fn is_other_than_postgres(driver: Option<&str>) -> bool {
    driver.is_some_and(|driver| !["postgres", ""].contains(&driver))
}

/// The same of a file whose source is not where the tables are. One on the line takes precedence.
fn source_of_file(
    found: &Found,
    line: &ServeFlags,
    names_database: bool,
    notes: &mut Notes,
) -> Option<OsString> {
    let of = |flag: &str| found.settings.iter().find(|it| it.flag == flag);
    let text = |flag: &str| of(flag).map(|it| it.text.as_str());
    let store = line.store.as_deref().or(text("store"));
    let driver = line.sql_driver.as_deref().or(text("sql-driver"));
    let is_postgres = store.is_some_and(|store| store.eq_ignore_ascii_case("sql"))
        && !is_other_than_postgres(driver);
    let source = of("database-url").filter(|_| is_postgres && names_database)?;
    if line.sql_source.is_none() {
        notes.replaced(
            format!("the SQL source ({})", source.position),
            ANOTHER_SOURCE,
        );
    }
    Some(format!("--sql-source={}", source.text).into())
}

fn is_on_line(matches: &ArgMatches, flag: &str) -> bool {
    matches.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine)
}

fn serve() -> Command {
    ServeFlags::augment_args(Command::new("serve").args_override_self(true))
}

fn matches(args: &[OsString]) -> Result<ArgMatches, Error> {
    let all = std::iter::once(OsString::from("serve")).chain(args.iter().cloned());
    serve()
        .try_get_matches_from(all)
        .map_err(|error| from_clap(&error))
}

fn flags_of(matches: &ArgMatches) -> Result<ServeFlags, Error> {
    ServeFlags::from_arg_matches(matches).map_err(|error| from_clap(&error))
}

/// Our own sentence about a value, else the first line of clap's.
pub(crate) fn from_clap(error: &clap::Error) -> Error {
    if let Some(source) = std::error::Error::source(error) {
        let value = error.get(ContextKind::InvalidValue);
        if let (true, Some(ContextValue::String(value))) = (source.is::<ParseIntError>(), value) {
            return Error::new(format!("{value:?} is not a whole number"));
        }
        return Error::new(source.to_string());
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    Error::new(line.trim_start_matches("error: "))
}

fn files(flags: &ServeFlags) -> Result<Found, Error> {
    match (&flags.config, &flags.stan_config) {
        (None, None) => Ok(Found::default()),
        (Some(file), None) | (None, Some(file)) => file::read(file, Part::Both),
        (Some(file), Some(other)) if is_same(file, other) => file::read(file, Part::Both),
        (Some(process), Some(streaming)) => {
            let mut found = file::read(streaming, Part::Streaming)?;
            found.append(file::read(process, Part::Process)?);
            Ok(found)
        }
    }
}

/// Named twice: it says all of it.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some() && real(one) == real(other)
}

fn is_given(matches: &ArgMatches, flag: &str) -> bool {
    let id = flag.replace('-', "_");
    match matches.value_source(&id) {
        // An empty variable must not hide the key of a file: messages would be stored as they are. Nor a login.
        Some(ValueSource::EnvVariable) if flag == "encryption-key" || LOGIN.contains(&flag) => {
            let mut raw = matches.get_raw(&id).into_iter().flatten();
            raw.any(|value| !value.is_empty())
        }
        Some(ValueSource::CommandLine | ValueSource::EnvVariable) => true,
        Some(_) | None => false,
    }
}

fn drop_what_flags_replace(found: &mut Found, given: &ArgMatches) {
    let is_login_given = LOGIN.iter().any(|flag| is_given(given, flag));
    let is_user = |setting: &Setting| setting.flag == "nats-user";
    // As there: a password alone is that of the file's user.
    let others = LOGIN.iter().filter(|flag| **flag != "nats-password");
    let keeps_user = !others.clone().any(|flag| is_given(given, flag));
    found.settings.retain(|setting| {
        let is_replaced = setting.is_login() && is_login_given && !(keeps_user && is_user(setting));
        !(is_given(given, &setting.flag) || is_replaced)
    });
}

/// A value that its flag cannot take is refused with its place.
fn ensure_parses(setting: &Setting) -> Result<(), Error> {
    let alone = serve().mut_args(|arg| arg.env(None::<&str>));
    let parsed = alone.try_get_matches_from([OsString::from("serve"), as_arg(setting)]);
    // Leaving it out, as `blame` does, would only make the database a missing one.
    let read = match parsed {
        Ok(_) if setting.flag == "database-url" => DatabaseUrl::parse(&setting.text)
            .map(drop)
            .map_err(|error| Error::new(error.to_string())),
        Ok(_) => Ok(()),
        Err(error) => Err(from_clap(&error)),
    };
    read.map_err(|error| named(Some(&setting.position), &error))
}

/// Without the environment.
pub(super) fn flags_alone(args: &[OsString]) -> Result<ServeFlags, Error> {
    let all = std::iter::once(OsString::from("serve")).chain(args.iter().cloned());
    let alone = serve().mut_args(|arg| arg.env(None::<&str>));
    let matches = alone.try_get_matches_from(all);
    flags_of(&matches.map_err(|error| from_clap(&error))?)
}

pub(super) fn as_arg(setting: &Setting) -> OsString {
    format!("--{}={}", setting.flag, setting.text).into()
}

struct Assembled<'a> {
    args: &'a [OsString],
    found: &'a Found,
    login_on_line: bool,
    login_in_file: bool,
}

/// A part of a file.
#[derive(Clone, Copy, PartialEq)]
enum Piece {
    Setting(usize),
    Channel(usize),
}

impl Assembled<'_> {
    /// Everything, or everything but one piece; else all that is wrong with it.
    fn without(&self, left_out: Option<Piece>) -> Result<(ServeFlags, Config), Vec<Error>> {
        let kept = |piece: Piece| left_out != Some(piece);
        let settings = self.found.settings.iter().enumerate();
        let settings = settings.filter(|(index, _)| kept(Piece::Setting(*index)));
        let mut args: Vec<OsString> = settings.map(|(_, setting)| as_arg(setting)).collect();
        args.extend(self.args.iter().cloned());
        let mut flags = matches(&args)
            .and_then(|matches| flags_of(&matches))
            .map_err(|error| vec![error])?;
        let channels = self.found.channels.iter().enumerate();
        let channels = channels.filter(|(index, _)| kept(Piece::Channel(*index)));
        flags.channels_of_file = channels.map(|(_, channel)| channel.clone()).collect();
        flags.nats_of_file = self.found.nats.iter().map(managed_nats::json_of).collect();
        flags.nats_login_on_line = self.login_on_line;
        flags.nats_login_in_file = self.login_in_file;
        let config = Config::judge(&flags)?;
        Ok((flags, config))
    }

    /// Names the place in the file that an error is about: the one without which it is gone.
    fn blame(&self, error: &Error) -> Error {
        let settings = self.found.settings.iter().enumerate();
        let settings = settings.map(|(index, s)| (Piece::Setting(index), Some(&s.position)));
        let channels = self.found.channels.iter().enumerate();
        let channels = channels.map(|(index, c)| (Piece::Channel(index), c.position.as_ref()));
        // A file may name very many channels, and each is tried.
        let mut pieces = settings.chain(channels).take(PIECES_MAX);
        let causes = |piece: Piece| match self.without(Some(piece)) {
            Ok(_) => true,
            Err(errors) => !errors.contains(error),
        };
        match pieces.find(|(piece, _)| causes(*piece)) {
            Some((_, position)) => named(position, error),
            None => error.clone(),
        }
    }
}

pub(super) fn named(position: Option<&SourcePosition>, error: &Error) -> Error {
    match position {
        Some(position) => Error::new(format!("{position}: {error}")),
        None => error.clone(),
    }
}

const PIECES_MAX: usize = 1000;

fn origins(given: &ArgMatches, found: &Found) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::new();
    for arg in serve().get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let origin = match given.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Origin::CommandLine,
            Some(ValueSource::EnvVariable) => {
                let name = arg.get_env().unwrap_or_default();
                Origin::Environment(name.to_string_lossy().into_owned())
            }
            Some(_) | None => continue,
        };
        origins.insert(long.to_owned(), origin);
    }
    for setting in &found.settings {
        origins.insert(setting.flag.clone(), Origin::File(setting.position.clone()));
    }
    origins
}
