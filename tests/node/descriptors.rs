//! A server that has no file descriptor left.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::pair::{Group, LIMIT, Server};
use crate::support::wait::wait_until;

fn limit_descriptors(server: &Server, spare: usize) {
    let pid = server.pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = open + spare;
    let limited = Command::new("prlimit")
        .args(["--pid", &pid.to_string()])
        .arg(format!("--nofile={limit}:"))
        .status();
    assert!(limited.unwrap().success());
}

/// Time of the processor that it has taken so far.
fn worked(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[tokio::test]
async fn probes_are_answered_while_no_file_descriptor_is_left() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    for spare in [0, 3] {
        limit_descriptors(&server, spare);
        let mut strangers = Vec::new();
        for _ in 0..40 {
            // They ask for nothing.
            let stream = TcpStream::connect(("127.0.0.1", server.http_port)).await;
            strangers.push(stream.unwrap());
        }
        let (began, before) = (Instant::now(), worked(&server));
        for path in ["/healthz", "/readyz", "/healthz", "/readyz"] {
            wait_until(LIMIT, async || match server.get(path).await? {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
        wait_until(LIMIT, async || match server.get("/readyz").await? {
            (200, page) if page.contains("descriptors-few") && page.contains("LimitNOFILE") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        })
        .await;
        wait_until(LIMIT, async || match began.elapsed() {
            elapsed if elapsed < Duration::from_secs(3) => Err(format!("{elapsed:?}")),
            _ => Ok(()),
        })
        .await;
        let (lasted, took) = (began.elapsed(), worked(&server).saturating_sub(before));
        assert!(took < lasted / 2, "{took:?} of {lasted:?}");
        let starved = wait_until(LIMIT, async || {
            let (_, metrics) = server.get("/metrics").await?;
            let name = "\nstanby_pages_starved_total ";
            let value = metrics.split(name).nth(1).unwrap_or_default();
            let value = value.lines().next().unwrap_or_default().to_owned();
            value.parse::<u64>().map_err(|_| metrics)
        })
        .await;
        assert!(starved > 0);
        let log = server.log();
        assert!(log.contains("limit of file descriptors"), "{log}");
        drop(strangers);
        limit_descriptors(&server, 1000);
        wait_until(LIMIT, async || match server.get("/readyz").await? {
            (200, page) if !page.contains("descriptors-few") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}
