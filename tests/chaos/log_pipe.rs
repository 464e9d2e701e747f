//! The standard error of a server as a pipe that somebody reads, until they no longer do.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// As small as the kernel makes it: full at once when nobody reads.
const PIPE_BYTES: i32 = 4096;

/// What fills it while nobody reads. No line of a log has it.
const FILLER: u8 = 1;

/// For one server after the other. Reading ends with the value.
pub(crate) struct LogPipe {
    _directory: tempfile::TempDir,
    path: PathBuf,
    /// Another end for writing, so that the pipe can be filled and never ends.
    filler: File,
    text: Arc<Mutex<Vec<u8>>>,
    is_read: watch::Sender<bool>,
    _reader: JoinSet<()>,
}

impl LogPipe {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stderr");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        // Both ends: opening one of them would wait for the other.
        let filler = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path)
            .unwrap();
        fcntl(&filler, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).unwrap();
        let receiver = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (is_read, readings) = watch::channel(true);
        let mut reader = JoinSet::new();
        reader.spawn(read(receiver, readings, Arc::clone(&text)));
        Self {
            _directory: directory,
            path,
            filler,
            text,
            is_read,
            _reader: reader,
        }
    }

    /// The server's standard error leads here; its process number is still the child's.
    pub(crate) fn apply(&self, command: &mut Command) {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG_PIPE\""])
            .arg(command.get_program())
            .args(command.get_args())
            .env("LOG_PIPE", &self.path);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        *command = shell;
    }

    /// Nobody reads any more, and not a byte more fits in.
    pub(crate) fn block(&self) {
        self.is_read.send_replace(false);
        let mut filler = &self.filler;
        let block = [FILLER; 512];
        while filler.write(&block).is_ok() {}
        while filler.write(&block[..1]).is_ok() {}
    }

    pub(crate) fn unblock(&self) {
        self.is_read.send_replace(true);
    }

    /// What came out of it.
    pub(crate) fn text(&self) -> String {
        let text = self.text.lock().unwrap();
        String::from_utf8_lossy(&text).replace(char::from(FILLER), "")
    }
}

async fn read(
    mut receiver: pipe::Receiver,
    mut readings: watch::Receiver<bool>,
    text: Arc<Mutex<Vec<u8>>>,
) {
    let mut bytes = vec![0; 4096];
    loop {
        if readings.wait_for(|is_read| *is_read).await.is_err() {
            return;
        }
        let read = tokio::select! {
            // Whoever says so wants nothing more to be taken out.
            biased;
            _ = readings.wait_for(|is_read| !*is_read) => continue,
            read = receiver.read(&mut bytes) => read,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) => text.lock().unwrap().extend_from_slice(&bytes[..count]),
        }
    }
}
