//! The configuration files of Patroni and `HAProxy`.

use std::fmt::Write as _;
use std::path::Path;

use super::{Member, Mode};

pub(super) fn settings_of(
    mode: Mode,
    number: usize,
    port: u16,
    rest: u16,
    etcd: u16,
    home: &Path,
    programs: &Path,
) -> String {
    let (synchronous, strict) = (mode != Mode::Asynchronous, mode == Mode::Strict);
    let (data, home, programs) = (
        home.join("data").display().to_string(),
        home.display(),
        programs.display(),
    );
    // The shortest times that Patroni takes.
    format!(
        "scope: chaos
name: pg{number}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd3: {{host: '127.0.0.1:{etcd}'}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1073741824
    synchronous_mode: {synchronous}
    synchronous_mode_strict: {strict}
    postgresql:
      use_pg_rewind: false
      parameters: {{max_connections: 100, wal_keep_size: 64MB, wal_sender_timeout: 5s}}
  initdb: [{{encoding: UTF8}}, {{auth: trust}}, no-sync]
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  data_dir: '{data}'
  bin_dir: '{programs}'
  pgpass: '{home}/pgpass'
  pg_hba: ['local all all trust', 'host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: postgres}}
  parameters: {{unix_socket_directories: '{home}', fsync: 'off', shared_buffers: 16MB}}
watchdog: {{mode: 'off'}}
"
    )
}

pub(super) fn haproxy_settings(port: u16, members: &[Member]) -> String {
    let mut text = format!(
        "defaults
  mode tcp
  timeout client 30m
  timeout server 30m
  timeout connect 1s
listen primary
  bind 127.0.0.1:{port}
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 300ms fastinter 100ms fall 2 rise 1 on-marked-down shutdown-sessions
"
    );
    for (number, member) in members.iter().enumerate() {
        let Member { port, rest, .. } = member;
        writeln!(
            text,
            "  server pg{number} 127.0.0.1:{port} check port {rest}"
        )
        .unwrap();
    }
    text
}
