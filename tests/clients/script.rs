//! A client's script as a child process: the lines it prints, and the lines it is told.
//!
//! A script prints a line for each step that worked, and `? …` when it wants something done before it goes on.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const LINES_MAX: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Script {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    transcript: Transcript,
    _readers: JoinSet<()>,
}

/// Everything that the script wrote, to be shown when a test fails.
#[derive(Clone, Debug, Default)]
struct Transcript(Arc<Mutex<String>>);

impl Script {
    /// It is killed when the value is dropped.
    pub(crate) fn start(program: &Path, arguments: &[&str], directory: &Path) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let input = child.stdin.take().unwrap();
        let transcript = Transcript::default();
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let mut readers = JoinSet::new();
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        readers.spawn(read(stdout, Some(sender), transcript.clone()));
        readers.spawn(read(stderr, None, transcript.clone()));
        Self {
            name: arguments.join(" "),
            child,
            input,
            lines,
            transcript,
            _readers: readers,
        }
    }

    /// The next line; `None` once the script has ended.
    pub(crate) async fn line(&mut self, limit: Duration) -> Option<String> {
        match timeout(limit, self.lines.recv()).await {
            Ok(line) => line,
            Err(_) => self.fail(&format!("said nothing for {limit:?}")),
        }
    }

    /// Reads on until it prints `line`.
    pub(crate) async fn wait_for(&mut self, line: &str, limit: Duration) {
        let waiting = async {
            while let Some(said) = self.lines.recv().await {
                if said == line {
                    return true;
                }
            }
            false
        };
        match timeout(limit, waiting).await {
            Ok(true) => {}
            Ok(false) => self.fail(&format!("ended without {line:?}")),
            Err(_) => self.fail(&format!("did not say {line:?} within {limit:?}")),
        }
    }

    /// Reads `count` lines that it has yet to print.
    pub(crate) async fn wait_for_more(&mut self, count: usize, limit: Duration) {
        while self.lines.try_recv().is_ok() {}
        for _ in 0..count {
            if self.line(limit).await.is_none() {
                self.fail("ended early");
            }
        }
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        let told = self.input.write_all(format!("{line}\n").as_bytes()).await;
        if let Err(error) = told {
            self.fail(&format!("does not listen: {error}"));
        }
    }

    /// Reads to the end of the script, which must be a good one.
    pub(crate) async fn finish(mut self, limit: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line(limit).await {
            lines.push(line);
        }
        match timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => lines,
            ended => self.fail(&format!("ended badly: {ended:?}")),
        }
    }

    pub(crate) fn fail(&self, what: &str) -> ! {
        let written = self.transcript.0.lock();
        let written = written.unwrap_or_else(PoisonError::into_inner);
        panic!("{} {what}; it wrote:\n{written}", self.name);
    }
}

async fn read(
    stream: impl AsyncRead + Unpin,
    sender: Option<mpsc::Sender<String>>,
    transcript: Transcript,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        {
            let mut written = transcript.0.lock().unwrap_or_else(PoisonError::into_inner);
            written.push_str(&line);
            written.push('\n');
        }
        if let Some(sender) = &sender
            && sender.send(line).await.is_err()
        {
            return;
        }
    }
}
