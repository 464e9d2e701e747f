//! A Postgres of our own: a real server on a data directory that nobody else uses.
//!
//! It listens on a Unix socket only. The directory of the socket admits nobody but its owner, which makes
//! passwords needless: none to invent, to store, to print or to leak through a process list.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tokio::time::{interval, timeout};

use super::Error;
use super::account::Account;
use super::directory::Directory;
use super::guardian::Guardian;
use super::initdb::{self, make_private};
use super::process::{Process, StopSignals};

/// The superuser, and the database that always exists.
const USER: &str = "postgres";
const DATABASE: &str = "postgres";

/// Part of the socket's name only: nothing listens on TCP.
const PORT: u16 = 5432;

/// The kernel's limit is 107 bytes on Linux and 103 elsewhere.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Recovery after a crash is part of starting.
const START_LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

const STOP: StopSignals = StopSignals {
    first: Signal::SIGINT,
    second: Signal::SIGQUIT,
};

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory of `initdb` and `postgres`; found by itself when not given.
    pub programs: Option<PathBuf>,
    /// Gives up surviving a power loss, for data that nobody will want by then.
    pub volatile: bool,
    /// More settings, as `name=value`.
    pub settings: Vec<String>,
}

#[derive(Debug)]
pub struct Postgres {
    process: Process,
    sockets: PathBuf,
}

impl Postgres {
    /// Starts Postgres on `directory`, making a database where there is none, and waits until it takes
    /// connections.
    pub async fn start(
        directory: &Directory,
        options: &Options,
        guardian: &Guardian,
    ) -> Result<Self, Error> {
        let data = directory.postgres();
        let account = Account::choose()?;
        account.ensure_reaches(&data)?;
        let programs = initdb::find(options.programs.as_deref(), &data).await?;
        remove_misleading_lock(&data)?;
        initdb::initialize(&programs, &account, &data, USER, !options.volatile).await?;
        let sockets = socket_directory(directory, &account)?;

        let mut command = Command::new(programs.program("postgres"));
        command.arg("-D").arg(&data).current_dir("/");
        let mut set = |name: &str, value: &std::ffi::OsStr| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            command.arg("-c").arg(setting);
        };
        set("listen_addresses", "".as_ref());
        set("port", PORT.to_string().as_ref());
        set("unix_socket_directories", sockets.as_os_str());
        set("unix_socket_permissions", "0700".as_ref());
        set("logging_collector", "off".as_ref());
        let durable = if options.volatile { "off" } else { "on" };
        for name in ["fsync", "full_page_writes"] {
            set(name, durable.as_ref());
        }
        for setting in &options.settings {
            command.arg("-c").arg(setting);
        }
        account.apply(&mut command);

        let mut process = Process::spawn("postgres", command, directory, STOP, guardian)?;
        match timeout(START_LIMIT, ready(&mut process, &data)).await {
            Ok(result) => result?,
            Err(_elapsed) => return Err(process.failure("was not ready in time")),
        }
        Ok(Self { process, sockets })
    }

    /// The URL of the database that always exists.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    pub fn url_of(&self, database: &str) -> String {
        // Holds nothing that a URL would read as its own; `socket_directory` sees to that.
        let sockets = self.sockets.display();
        format!("postgres:///{database}?host={sockets}&user={USER}")
    }

    /// What to type in another terminal.
    pub fn psql(&self) -> String {
        format!("psql -h {} -U {USER} {DATABASE}", self.sockets.display())
    }

    /// The socket itself, for whoever wants to stand between a client and Postgres.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join(socket_name())
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log(&self) -> &Path {
        self.process.log()
    }

    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.process.wait().await
    }

    /// Its process number and how it ended, if it has.
    pub fn ended(&mut self) -> Option<(u32, ExitStatus)> {
        self.process
            .ended()
            .map(|status| (self.process.pid(), status))
    }

    /// Ends sessions and writes a checkpoint; without one if that takes longer than `patience`.
    pub async fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        self.process.stop(patience).await
    }

    /// Ends as in a crash, without a checkpoint: for data that nobody will want, and any other start would recover.
    pub async fn stop_at_once(&mut self, patience: Duration) -> Result<(), Error> {
        self.process.stop_firmly(patience).await
    }

    /// Passes a signal on, for tests that freeze or crash it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

/// Waits for the line in its lock file by which Postgres reports to `pg_ctl` that it is ready.
async fn ready(process: &mut Process, data: &Path) -> Result<(), Error> {
    let mut tick = interval(POLL);
    loop {
        tick.tick().await;
        if process.ended().is_some() {
            return Err(process.failure("ended while starting"));
        }
        let lock = LockFile::read(data);
        if lock.is_some_and(|lock| lock.ready && lock.pid == process.pid().cast_signed()) {
            return Ok(());
        }
    }
}

/// `postmaster.pid`, by which Postgres keeps a second one off its data.
struct LockFile {
    pid: i32,
    ready: bool,
}

impl LockFile {
    const NAME: &str = "postmaster.pid";
    const STATUS_LINE: usize = 7;

    fn read(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join(Self::NAME)).ok()?;
        let lines: Vec<_> = text.lines().collect();
        let pid = lines.first()?.trim().parse().ok()?;
        let ready = lines
            .get(Self::STATUS_LINE)
            .is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, ready })
    }
}

/// Removes a lock file whose process number now belongs to a stranger, because Postgres would take that for
/// another Postgres. It handles every other leftover better than we could.
fn remove_misleading_lock(data: &Path) -> Result<(), Error> {
    let Some(pid) = LockFile::read(data).map(|lock| lock.pid) else {
        return Ok(());
    };
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return Ok(());
    };
    // One that has ended but was not waited for is left to Postgres, which sees that it is gone.
    if command_line.is_empty() {
        return Ok(());
    }
    let mut words = command_line.split(|byte| *byte == 0);
    if words.any(|word| word == data.as_os_str().as_bytes()) {
        return Err(Error::Refused(format!(
            "a Postgres that this did not start (process {pid}) runs on {}: stop it, or choose another directory \
             with --data",
            data.display()
        )));
    }
    let path = data.join(LockFile::NAME);
    fs::remove_file(&path).map_err(Error::file("remove", &path))
}

/// A private directory whose sockets' paths are short enough for the kernel, and without the characters that
/// settings, URLs and clients each read in their own way (a comma separates hosts, for one).
fn socket_directory(directory: &Directory, account: &Account) -> Result<PathBuf, Error> {
    let inside = directory.root().join("socket");
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let short = inside.join(socket_name()).as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
    if short && inside.as_os_str().as_bytes().iter().all(plain) {
        if !inside.exists() {
            make_private(&inside, account)?;
        }
        return Ok(inside);
    }

    // Always the same one for the same data, so that nothing piles up.
    let mut hasher = DefaultHasher::new();
    directory.root().hash(&mut hasher);
    let outside = Path::new("/tmp").join(format!("stanby-{}-{:016x}", geteuid(), hasher.finish()));
    if outside.symlink_metadata().is_err() {
        make_private(&outside, account)?;
    }
    // Anybody may create names in /tmp: what is there must be a directory that only the account may enter.
    let meta = outside
        .symlink_metadata()
        .map_err(Error::file("look at", &outside))?;
    let private = meta.is_dir() && meta.permissions().mode() & 0o777 == 0o700;
    if !private || !account.is(meta.uid()) {
        return Err(Error::Refused(format!(
            "{} is not a private directory of ours, and the path of {} is too long or too \
             special to hold a socket: remove the first, or choose a plainer data directory with --data",
            outside.display(),
            directory.root().display()
        )));
    }
    Ok(outside)
}

/// `text` as one word of a shell.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
