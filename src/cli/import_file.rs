//! `stanby import --from-config FILE`: what the former server's file says takes the place of flags that are not given.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches as _};

use super::import::ImportArgs;
use crate::config::file::{self, Part, Setting};
use crate::config::{Error, MySqlUrl, NatsFlags, Secret, sources};

/// Where its data is, under the name of the flag of `serve`.
const FROM: &str = "from";

/// Whether a flag of `serve` means the same to an import: how NATS is reached and logged in to, and by which subjects.
fn is_the_same(flag: &str) -> bool {
    flag == "discover-prefix" || is_of_nats(flag)
}

fn is_of_nats(flag: &str) -> bool {
    let nats = NatsFlags::augment_args(Command::new("import"));
    let mut of_nats = nats.get_arguments().filter_map(Arg::get_long);
    of_nats.any(|it| it == flag)
}

/// `args` as they were given after `import`; the limits of a file are read where the store is.
pub(super) fn completed(args: &[OsString]) -> Result<ImportArgs, Error> {
    let given = matches(args)?;
    ensure_all_used(&given)?;
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

/// Each kind of import has flags of its own; one that is given for another kind would be ignored. What stands in the
/// environment may be meant for other commands.
fn ensure_all_used(given: &ArgMatches) -> Result<(), Error> {
    const OF_FILES: [&str; 5] = [
        "max-msgs",
        "max-bytes",
        "max-age",
        "from-crc-poly",
        "skip-damaged",
    ];
    let from = given.get_one::<Secret>(FROM).map_or("", Secret::expose);
    let is_named = |id: &str| {
        let secret = given.get_one::<Secret>(id);
        secret.is_some_and(|it| !it.is_empty())
    };
    let (kind, is_used): (_, &dyn Fn(&str) -> bool) = if given.get_flag("republish") {
        ("--republish", &|flag| {
            matches!(flag, "ndjson" | "republish" | "dry-run" | "json") || is_of_nats(flag)
        })
    } else if given.contains_id("ndjson") {
        ("--ndjson", &|flag| {
            matches!(
                flag,
                "ndjson" | "dry-run" | "json" | "database-url" | "schema"
            )
        })
    } else if is_named("from_stan") {
        ("--from-stan", &|flag| {
            flag != "from-schema" && !OF_FILES.contains(&flag)
        })
    } else if !from.is_empty() && (!from.contains("://") || MySqlUrl::is_one(from)) {
        ("a --from that is no Postgres", &|flag| {
            flag != "from-schema"
        })
    } else {
        return Ok(());
    };
    let import = ImportArgs::augment_args(Command::new("import"));
    for arg in import.get_arguments() {
        let Some(flag) = arg.get_long() else { continue };
        let is_given = given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        if is_given && !is_used(flag) {
            return Err(Error::new(format!(
                "--{flag} means nothing beside {kind}; leave it out"
            )));
        }
    }
    Ok(())
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
        .map_err(|error| sources::from_clap(&error))
}

fn read(matches: &ArgMatches) -> Result<ImportArgs, Error> {
    ImportArgs::from_arg_matches(matches).map_err(|error| sources::from_clap(&error))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        completed(&args).err().map(|error| error.to_string())
    }

    #[test]
    fn a_flag_that_this_kind_of_import_would_ignore_is_refused() {
        for (line, flag) in [
            ("--ndjson f --max-msgs 3", "--max-msgs"),
            ("--ndjson f --ahead", "--ahead"),
            ("--ndjson f --from-config g", "--from-config"),
            ("--ndjson f --cluster-id c", "--cluster-id"),
            ("--ndjson f --encryption-key k", "--encryption-key"),
            ("--ndjson f --republish --schema s", "--schema"),
            ("--from directory --from-schema s", "--from-schema"),
            ("--from mysql://u@h/d --from-schema s", "--from-schema"),
            (
                "--from-stan nats://h --monitor http://h --skip-damaged",
                "--skip-damaged",
            ),
        ] {
            let message = refusal(line).unwrap_or_default();
            let sentence = format!("{flag} means nothing beside ");
            assert!(message.starts_with(&sentence), "{line}: {message}");
        }
        for line in [
            "--ndjson f --dry-run --json --schema s",
            "--ndjson f --republish --dry-run --json --cluster-id c --nats-server nats://h",
            "--from directory --max-msgs 3 --skip-damaged --from-crc-poly 1",
            "--from postgres://u@h/d --from-schema s --cluster-id c",
            "--from-stan nats://h --monitor http://h --dry-run --from-not-encrypted",
        ] {
            assert_eq!(refusal(line), None, "{line}");
        }
    }
}
