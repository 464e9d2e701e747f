//! Finds Postgres' programs and prepares its data directory. `postgres.rs` runs it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
use super::account::Account;
use super::process::{in_path, is_executable, output};

/// `idle_session_timeout`, which ends the session of a frozen active, came with 14.
const MAJOR_MIN: u32 = 14;

/// Where Debian and Ubuntu put the programs, one directory per major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

#[derive(Clone, Debug)]
pub(super) struct Programs {
    directory: PathBuf,
    major: u32,
}

impl Programs {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Finds programs that can open `data`: those of the version that wrote it, else the newest.
pub(super) async fn find(explicit: Option<&Path>, data: &Path) -> Result<Programs, Error> {
    let written_by = written_by(data)?;
    let directory = match explicit {
        Some(directory) => directory.to_path_buf(),
        None => discover(Path::new(DEBIAN_ROOT), written_by).ok_or_else(|| {
            Error::Missing(format!(
                "Postgres is not installed (no initdb and postgres in {DEBIAN_ROOT}/*/bin or PATH): install it \
                 (Debian: apt-get install --no-install-recommends postgresql), or name the directory of its \
                 programs with --pg-bin or STANBY_PG_BIN"
            ))
        })?,
    };
    if !holds_programs(&directory) {
        return Err(Error::Missing(format!(
            "there are no programs initdb and postgres in {}: --pg-bin (STANBY_PG_BIN) must name the directory \
             that holds both",
            directory.display()
        )));
    }
    let major = major_of(&directory).await?;
    if major < MAJOR_MIN {
        return Err(Error::Refused(format!(
            "the Postgres in {} is version {major}, and stanby needs {MAJOR_MIN} or newer: install a newer one, \
             or name another with --pg-bin",
            directory.display()
        )));
    }
    if let Some(written_by) = written_by.filter(|written_by| *written_by != major) {
        return Err(Error::Refused(format!(
            "{} was written by Postgres {written_by} and cannot be opened by Postgres {major} of {}: install \
             Postgres {written_by}, name it with --pg-bin, or start on another directory with --data",
            data.display(),
            directory.display()
        )));
    }
    Ok(Programs { directory, major })
}

fn discover(debian_root: &Path, wanted: Option<u32>) -> Option<PathBuf> {
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir(debian_root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let directory = entry.path().join("bin");
            holds_programs(&directory).then_some((major, directory))
        })
        .collect();
    installed.sort_unstable();
    let same = wanted.and_then(|wanted| installed.iter().find(|(major, _)| *major == wanted));
    if let Some((_, directory)) = same.or(installed.last()) {
        return Some(directory.clone());
    }
    let directory = in_path("initdb")?
        .canonicalize()
        .ok()?
        .parent()?
        .to_path_buf();
    holds_programs(&directory).then_some(directory)
}

fn holds_programs(directory: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| is_executable(&directory.join(program)))
}

async fn major_of(directory: &Path) -> Result<u32, Error> {
    let program = directory.join("postgres");
    let mut command = Command::new(&program);
    command.arg("--version");
    let printed = output(command).await?;
    let text = String::from_utf8_lossy(&printed.stdout);
    major_in(&text).ok_or_else(|| {
        Error::Refused(format!(
            "{} --version does not say which Postgres it is (it says {:?}): name another with --pg-bin",
            program.display(),
            text.trim()
        ))
    })
}

/// The major version in a line like `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major_in(line: &str) -> Option<u32> {
    let version = line.split_once("(PostgreSQL) ")?.1;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The major version that wrote `data`; `None` where there is no database yet.
fn written_by(data: &Path) -> Result<Option<u32>, Error> {
    let file = data.join("PG_VERSION");
    let exists = match fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::file("read", data)(error)),
    };
    if !exists {
        return Ok(None);
    }
    let version = fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    version.map(Some).ok_or_else(|| {
        Error::Refused(format!(
            "{} holds files but no readable PG_VERSION, so it is not a whole Postgres database: move it away (a \
             new one is made), or start on another directory with --data",
            data.display()
        ))
    })
}

/// Makes a database in `data` unless there is one. Interrupted, it leaves nothing that looks like one.
pub(super) async fn initialize(
    programs: &Programs,
    account: &Account,
    data: &Path,
    superuser: &str,
    durable: bool,
) -> Result<(), Error> {
    if data.join("PG_VERSION").exists() {
        return Ok(());
    }
    tracing::info!(major = programs.major, "creating a Postgres database");
    let unfinished = data.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(Error::file("remove", &unfinished))?;
    }
    make_private(&unfinished, account)?;
    account.ensure_reaches(&unfinished)?;

    let program = programs.program("initdb");
    let mut command = Command::new(&program);
    command
        .arg("--pgdata")
        .arg(&unfinished)
        .args([
            "--username",
            superuser,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
        ])
        .args(["--locale", "C", "--no-instructions"])
        .args((!durable).then_some("--no-sync"))
        .current_dir("/");
    account.apply(&mut command);
    let printed = output(command).await?;
    if !printed.status.success() {
        return Err(Error::Refused(format!(
            "{} could not make a database in {} ({}): {}",
            program.display(),
            data.display(),
            printed.status,
            String::from_utf8_lossy(&printed.stderr).trim()
        )));
    }
    if data.exists() {
        fs::remove_dir(data).map_err(Error::file("replace", data))?;
    }
    fs::rename(&unfinished, data).map_err(Error::file("put into place", data))
}

/// A directory that only `account` (and root) may enter.
pub(super) fn make_private(directory: &Path, account: &Account) -> Result<(), Error> {
    DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(Error::file("create", directory))?;
    account.give(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn install(root: &Path, major: &str) {
        let bin = root.join(major).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for program in ["initdb", "postgres"] {
            fs::write(bin.join(program), "").unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn the_version_that_wrote_the_data_is_preferred_to_the_newest() {
        let root = tempfile::tempdir().unwrap();
        for major in ["9.6", "14", "9", "17"] {
            install(root.path(), major);
        }

        let bin = |major: &str| Some(root.path().join(major).join("bin"));
        assert_eq!(discover(root.path(), None), bin("17"));
        assert_eq!(discover(root.path(), Some(14)), bin("14"));
        assert_eq!(discover(root.path(), Some(16)), bin("17"));
    }

    #[test]
    fn a_directory_without_its_version_file_is_not_taken_for_a_database() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("postgres");
        assert_eq!(written_by(&data).unwrap(), None);

        fs::create_dir(&data).unwrap();
        assert_eq!(written_by(&data).unwrap(), None);

        fs::write(data.join("postgresql.conf"), "").unwrap();
        let error = written_by(&data).unwrap_err().to_string();
        assert!(
            error.contains("no readable PG_VERSION") && error.contains("--data"),
            "{error}"
        );

        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(written_by(&data).unwrap(), Some(15));
    }

    #[test]
    fn versions_are_read_from_what_postgres_prints() {
        assert_eq!(
            major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_in("something else"), None);
    }
}
