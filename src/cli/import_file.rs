//! `stanby import --from-config FILE`: what the former server's file says takes the place of flags that are not given.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches as _};

use super::import::ImportArgs;
use crate::config::file::{self, Part, Setting};
use crate::config::{Error, NatsFlags, sources};

/// Where its data is, under the name of the flag of `serve`.
const FROM: &str = "from";

/// Whether a flag of `serve` means the same to an import: how NATS is reached and logged in to, and by which subjects.
fn is_the_same(flag: &str) -> bool {
    let nats = NatsFlags::augment_args(Command::new("import"));
    let mut of_nats = nats.get_arguments().filter_map(Arg::get_long);
    flag == "discover-prefix" || of_nats.any(|it| it == flag)
}

/// `args` as they were given after `import`; the limits of a file are read where the store is.
pub(super) fn completed(args: &[OsString]) -> Result<ImportArgs, Error> {
    let given = matches(args)?;
    let Some(file) = given.get_one::<PathBuf>("from_config") else {
        return read(&given);
    };
    let found = file::read(file, Part::Both)?;
    if let Some(mistake) = found.mistakes.first() {
        return Err(mistake.clone());
    }
    let mut all = Vec::new();
    for setting in &found.settings {
        let flag = match setting.flag.as_str() {
            "import-crc-poly" => "from-crc-poly",
            // Who names the former key may want another one, or none, from now on.
            "encryption-key" | "encryption-cipher" if is_given(&given, "from-encryption-key") => {
                continue;
            }
            "encryption-key" => "encryption-key",
            "encryption-cipher" => "encryption-cipher",
            same if is_the_same(same) => same,
            _ => continue,
        };
        if !is_given(&given, flag) {
            all.push(arg(flag, &setting.text));
        }
    }
    if !is_given(&given, FROM) {
        all.push(arg(FROM, &store(&found.settings, file)?));
    }
    all.extend(args.iter().cloned());
    read(&matches(&all)?)
}

/// The directory or the database that the file names.
fn store(settings: &[Setting], file: &std::path::Path) -> Result<String, Error> {
    let of = |flag: &str| {
        let setting = settings.iter().find(|setting| setting.flag == flag);
        setting.map(|setting| setting.text.clone())
    };
    let file = file.display();
    let named = |from: Option<String>, what: &str| {
        from.ok_or_else(|| Error::new(format!("{file} names no {what}; give it with --from")))
    };
    let kind = of("store").unwrap_or_default().to_ascii_lowercase();
    match kind.as_str() {
        "file" => named(of("import-dir"), "directory of its file store (dir)"),
        // Its driver took no scheme.
        "sql" if of("sql-driver").as_deref() == Some("mysql") => {
            let source = named(
                of("database-url"),
                "source of its SQL store (sql_options, source)",
            )?;
            Ok(format!("mysql://{}", source.trim_start_matches("mysql://")))
        }
        "sql" => named(
            of("database-url"),
            "source of its SQL store (sql_options, source)",
        ),
        _ => Err(Error::new(format!(
            "{file} names no store that outlives the former server (store: FILE or SQL), so that there is nothing to \
             import; if it had one, give it with --from. What it has in memory is read while it runs: --from-stan nats://host:4222 \
             --monitor http://host:8222"
        ))),
    }
}

fn matches(args: &[OsString]) -> Result<ArgMatches, Error> {
    let all = std::iter::once(OsString::from("import")).chain(args.iter().cloned());
    let import = ImportArgs::augment_args(Command::new("import").args_override_self(true));
    import
        .try_get_matches_from(all)
        .map_err(|error| sources::told(&error))
}

fn read(matches: &ArgMatches) -> Result<ImportArgs, Error> {
    ImportArgs::from_arg_matches(matches).map_err(|error| sources::told(&error))
}

fn is_given(matches: &ArgMatches, flag: &str) -> bool {
    let source = matches.value_source(&flag.replace('-', "_"));
    matches!(
        source,
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

fn arg(flag: &str, text: &str) -> OsString {
    format!("--{flag}={text}").into()
}
