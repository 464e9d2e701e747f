//! How fast a file store of nats-streaming-server is imported, beside a bare COPY of the same rows, how much memory that takes,
//! and how long clients wait at a switch with `--ahead`. `FIGURES_MESSAGES` says how many messages of 256 B there are.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use stanby::clock::Clock;
use stanby::core::ids::{ChannelName, ClientId, Guid, Sequence};
use stanby::core::message::Message;
use stanby::core::time::Timestamp;
use stanby::former::files::checksum::{Checksum, IEEE};
use stanby::former::files::index::Entry;
use stanby::former::files::writing;
use stanby::former::return_way::{self, AdvertisedSubjects, Stored};
use stanby::protocol::Subjects;
use stanby::protocol::subjects::Prefixes;
use stanby::store::files::export::NewStore;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::ground::Ground;
use crate::runs::Effort;
use crate::table::Table;

const MESSAGES: u64 = 1_000_000;
const CHANNELS: u64 = 10;
const PAYLOAD: usize = 256;
const CLUSTER_ID: &str = "imported";

/// What the former server takes between the last pass and its end.
const LAST_MOMENT: u64 = 10_000;

const LIMIT: Duration = Duration::from_mins(30);
const WATCH_EVERY: Duration = Duration::from_millis(50);

pub(crate) async fn measure(
    ground: &Ground,
    effort: Effort,
    table: &mut Table,
) -> anyhow::Result<()> {
    let count = match std::env::var("FIGURES_MESSAGES") {
        Ok(text) => text.parse().context("FIGURES_MESSAGES is no number")?,
        Err(_) => effort.count(MESSAGES),
    };
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    write_store(&store, count)?;
    let rows = f64::from(u32::try_from(count)?);
    let mib = 1.0 / 1024.0;

    let database = ground.database("import").await?;
    let began = Clock.now().monotonic;
    let mut import = import(ground, &database, &store, &[])?;
    let peak = peak_memory(&mut import).await?;
    let took = seconds(began);
    let size = format!("import of {count} messages of {PAYLOAD} B");
    table.row(&size, "msg/s", &[rows / took]);
    table.row("… its memory", "MiB", &[peak * mib]);
    let copied = copy_alone(&database).await?;
    table.row("COPY of the same rows, alone", "msg/s", &[rows / copied]);
    table.row("… of that the import has", "", &[copied / took]);

    let database = ground.database("ahead").await?;
    let mut import = self::import(ground, &database, &store, &["--ahead"])?;
    let open = OpenOptions::new()
        .append(true)
        .open(store.join("server.dat"))?;
    let _listening = until_it_follows(&mut import).await?;
    append(&store, count, LAST_MOMENT.min(count))?;
    drop(open);
    let stopped = Clock.now().monotonic;
    let peak = peak_memory(&mut import).await?;
    let imported = seconds(stopped);
    let (mut server, port) = serve(ground, &database)?;
    until_active(port).await?;
    let active = seconds(stopped);
    server.kill().await?;
    let size = format!("switch with --ahead, {count} messages: import ends after");
    table.row(&size, "s", &[imported]);
    table.row("… clients are served after", "s", &[active]);
    table.row("… memory of the import", "MiB", &[peak * mib]);
    Ok(())
}

fn seconds(began: stanby::core::time::Instant) -> f64 {
    Clock.now().monotonic.since(began).as_secs_f64()
}

fn channel(number: u64) -> anyhow::Result<ChannelName> {
    ChannelName::parse(format!("orders.{number}").into()).context("a name")
}

fn record(name: &ChannelName, sequence: u64) -> anyhow::Result<Stored> {
    let data: Vec<u8> = (0..PAYLOAD)
        .map(|at| u8::try_from((at as u64 * 31 + sequence) % 251).unwrap_or_default())
        .collect();
    let message = Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(1_600_000_000_000_000_000 + sequence.cast_signed() * 1000),
        client_id: ClientId::parse("figures".into()).context("an ID")?,
        guid: Guid::parse(sequence.to_string().into()).context("an ID")?,
        reply: bytestring::ByteString::new(),
        data: Bytes::from(data),
    };
    Ok(return_way::message(name, &message))
}

fn write_store(place: &Path, count: u64) -> anyhow::Result<()> {
    let subjects = Subjects::new(CLUSTER_ID, &Prefixes::default())?;
    let store = NewStore::begin(place)?;
    store.server(&return_way::server(&AdvertisedSubjects {
        cluster_id: CLUSTER_ID,
        discover: subjects.discover(),
        publish: subjects.publish_prefix(),
        subscribe: subjects.subscribe(),
        unsubscribe: subjects.unsubscribe(),
        close: subjects.close_client(),
        close_subscription: subjects.close_subscription(),
    }))?;
    store.clients(&[])?;
    for number in 0..CHANNELS {
        let name = channel(number)?;
        let mut channel = store.channel(&name, &[])?;
        for sequence in 1..=count / CHANNELS {
            let stored = record(&name, sequence)?;
            channel.add(sequence, stored.timestamp, &stored.record)?;
        }
        channel.finish()?;
    }
    store.finish()?;
    Ok(())
}

/// As a server writes on: the record, then the index.
fn append(store: &Path, before: u64, more: u64) -> anyhow::Result<()> {
    let checksum = Checksum::new(IEEE);
    let first = before / CHANNELS + 1;
    for number in 0..CHANNELS {
        let name = channel(number)?;
        let directory = store.join(name.as_str());
        let last = (1..100_000_u32)
            .map(|slice| directory.join(format!("msgs.{slice}.dat")))
            .take_while(|path| path.exists())
            .last()
            .context("a slice")?;
        let open = |path: &PathBuf| OpenOptions::new().append(true).open(path);
        let (mut records, mut index): (File, File) =
            (open(&last)?, open(&last.with_extension("idx"))?);
        let mut at = records.metadata()?.len();
        for sequence in first..first + more / CHANNELS {
            let stored = record(&name, sequence)?;
            let framed = writing::untyped(&stored.record, &checksum).context("a record")?;
            let entry = Entry {
                sequence,
                at,
                timestamp: stored.timestamp,
                size: u32::try_from(stored.record.len())?,
            };
            records.write_all(&framed)?;
            index.write_all(&writing::indexed(&entry, &checksum))?;
            at += framed.len() as u64;
        }
    }
    Ok(())
}

fn command(what: &str, ground: &Ground, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
    command
        .arg(what)
        .args(["--database-url", database])
        .args(["--nats-server", &ground.nats_url()])
        .args(["--cluster-id", CLUSTER_ID])
        .kill_on_drop(true)
        .stdout(Stdio::null());
    command
}

fn import(ground: &Ground, database: &str, store: &Path, flags: &[&str]) -> anyhow::Result<Child> {
    let mut command = command("import", ground, database);
    command.arg("--from").arg(store).args(flags);
    Ok(command.stderr(Stdio::piped()).spawn()?)
}

fn serve(ground: &Ground, database: &str) -> anyhow::Result<(Child, u16)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let mut command = command("serve", ground, database);
    command.args(["--http-host", "127.0.0.1", "--http-port", &port.to_string()]);
    command.args(["--max-msgs", "0", "--max-bytes", "0"]);
    Ok((command.stderr(Stdio::null()).spawn()?, port))
}

async fn until_it_follows(import: &mut Child) -> anyhow::Result<JoinSet<()>> {
    let stderr = import.stderr.take().context("its words")?;
    let mut lines = BufReader::new(stderr).lines();
    let follows = async {
        let mut told = Vec::new();
        while let Some(line) = lines.next_line().await? {
            if line.contains("is followed") {
                return Ok(());
            }
            told.push(line);
        }
        anyhow::bail!("the import has ended: {told:?}")
    };
    timeout(LIMIT, follows).await??;
    // It goes on talking, to nobody.
    let mut listening = JoinSet::new();
    listening.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(listening)
}

/// Waits until it ends. The highest that it had, in KiB.
async fn peak_memory(import: &mut Child) -> anyhow::Result<f64> {
    let mut listening = JoinSet::new();
    if let Some(stderr) = import.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        listening.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
            }
        });
    }
    let status = format!("/proc/{}/status", import.id().context("it runs")?);
    let mut ticks = interval(WATCH_EVERY);
    let mut peak = 0.0;
    let ended = loop {
        tokio::select! {
            ended = import.wait() => break ended?,
            _ = ticks.tick() => {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok());
                peak = kib.unwrap_or(peak);
            }
        }
    };
    ensure!(ended.success(), "the import fails");
    Ok(peak)
}

/// Seconds that the same rows take from a file into a table of the same form.
async fn copy_alone(database: &str) -> anyhow::Result<f64> {
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await?;
    let mut running = JoinSet::new();
    running.spawn(connection);
    client
        .batch_execute(
            "SET search_path = stanby; CREATE TABLE copied (LIKE messages INCLUDING ALL);
            DO $$ BEGIN EXECUTE format('COPY messages TO %L (FORMAT binary)', current_setting('data_directory') || '/rows'); END $$;
            CHECKPOINT",
        )
        .await?;
    let began = Clock.now().monotonic;
    let copy = "DO $$ BEGIN EXECUTE format('COPY copied FROM %L (FORMAT binary)', current_setting('data_directory') || '/rows'); END $$";
    client.batch_execute(copy).await?;
    let took = seconds(began);
    let place = client
        .query_one("SELECT current_setting('data_directory')", &[])
        .await?;
    std::fs::remove_file(Path::new(place.get::<_, &str>(0)).join("rows"))?;
    client.batch_execute("DROP TABLE copied").await?;
    drop(client);
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(took)
}

async fn until_active(port: u16) -> anyhow::Result<()> {
    let mut ticks = interval(WATCH_EVERY);
    let active = async {
        loop {
            ticks.tick().await;
            if is_active(port).await {
                return;
            }
        }
    };
    Ok(timeout(LIMIT, active).await?)
}

async fn is_active(port: u16) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let request = b"GET /healthz/active HTTP/1.0\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.0 200")
}
