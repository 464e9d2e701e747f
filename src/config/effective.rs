//! The values that a server would run with, flag by flag, fit for a terminal: no secret is in there.

use super::duration::GoDuration;
use super::error::Error;
use super::limits::channel_entries;
use super::log::LogLevel;
use super::secret::{Secret, redact_url};
use super::sources::{Origin, Sources};

/// One flag.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Value {
    /// Its long name.
    pub name: &'static str,
    /// Empty where nothing is set.
    pub value: String,
    #[serde(serialize_with = "as_text")]
    pub from: Origin,
}

fn as_text<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

const HIDDEN: &str = "[REDACTED]";

/// Every flag of `serve` but those that name configuration files, and each channel's limits.
pub fn values(sources: &Sources) -> Result<Vec<Value>, Error> {
    let (flags, config) = (&sources.flags, &sources.config);
    let nats = &flags.nats;
    let pages = flags.pages.beside(flags);
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let path = |path: Option<&std::path::PathBuf>| {
        path.map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let hidden = |set: bool| if set { HIDDEN } else { "" }.to_owned();
    let amount = |limit: Option<u64>| limit.unwrap_or(0).to_string();
    let time = |limit: Option<std::time::Duration>| {
        GoDuration::from(limit.unwrap_or_default()).to_string()
    };
    let servers = nats
        .nats_server
        .as_ref()
        .map_or("", Secret::expose)
        .split(',');
    let servers: Vec<String> = servers.map(|url| redact_url(url.trim())).collect();
    let prefix = sources.config.subjects.discover();
    let channel = config.limits.channel;
    let number = |limit: Option<usize>| amount(limit.map(|limit| limit as u64));
    let all = [
        ("cluster-id", config.cluster_id.clone()),
        (
            "discover-prefix",
            prefix
                .trim_end_matches(&format!(".{}", config.cluster_id))
                .to_owned(),
        ),
        ("ft-group", text(config.ft_group.as_ref())),
        ("partitioning", config.partition.is_some().to_string()),
        (
            "lease",
            GoDuration::from(config.lease.duration()).to_string(),
        ),
        ("database-failover", flags.database_failover.to_string()),
        ("shadow", flags.shadow.shadow.to_string()),
        ("shadow-age", time(config.shadow.map(|shadow| shadow.age))),
        ("shadow-bytes", flags.shadow.shadow_bytes.0.to_string()),
        ("store", text(flags.store.as_ref())),
        ("sql-driver", text(flags.sql_driver.as_ref())),
        ("import-dir", path(flags.import_dir.as_ref())),
        ("import-crc-poly", flags.import_crc_poly.to_string()),
        ("database-url", config.database_url.with_tls_settings()),
        ("schema", config.schema.clone()),
        ("encrypt", config.encryption.key.is_some().to_string()),
        ("encryption-cipher", config.encryption.cipher.to_string()),
        ("encryption-key", hidden(config.encryption.key.is_some())),
        (
            "encryption-other-keys",
            hidden(!config.encryption.other_keys.is_empty()),
        ),
        ("nats-server", servers.join(",")),
        ("nats-server-arg", flags.nats_server_arg.join(" ")),
        ("nats-server-bin", path(flags.nats_server_bin.as_ref())),
        ("nats-user", text(nats.nats_user.as_ref())),
        ("nats-password", hidden(nats.nats_password.is_some())),
        ("nats-token", hidden(nats.nats_token.is_some())),
        ("nats-credentials", path(nats.nats_credentials.as_ref())),
        ("nats-nkey", path(nats.nats_nkey.as_ref())),
        ("nats-tls", config.nats.tls.required.to_string()),
        ("nats-tls-ca", path(nats.nats_tls_ca.as_ref())),
        ("nats-tls-cert", path(nats.nats_tls_cert.as_ref())),
        ("nats-tls-key", path(nats.nats_tls_key.as_ref())),
        (
            "nats-tls-server-name",
            text(nats.nats_tls_server_name.as_ref()),
        ),
        ("nats-tls-insecure", nats.nats_tls_insecure.to_string()),
        ("nats-tls-first", nats.nats_tls_first.to_string()),
        ("ack-prefix", config.subjects.ack_prefix().to_string()),
        (
            "hb-interval",
            GoDuration::from(config.heartbeats.interval).to_string(),
        ),
        (
            "hb-timeout",
            GoDuration::from(config.heartbeats.timeout).to_string(),
        ),
        ("hb-fail-count", config.heartbeats.fail_count.to_string()),
        (
            "connect-rate",
            amount(config.limits.connects_per_second.map(u64::from)),
        ),
        ("replace-durable", config.replace_durables.to_string()),
        ("max-clients", number(config.limits.clients)),
        (
            "max-in-flight",
            amount(config.limits.in_flight.map(u64::from)),
        ),
        ("max-channels", number(config.limits.channels)),
        ("max-subs", number(channel.subscriptions)),
        ("max-msgs", amount(channel.messages)),
        ("max-bytes", amount(channel.bytes)),
        ("max-age", time(channel.age)),
        ("max-inactivity", time(channel.inactivity)),
        ("http-host", pages.host()),
        ("http-port", flags.pages.http_port.to_string()),
        ("https-host", pages.secure_host()),
        ("https-port", flags.pages.https_port.to_string()),
        ("https-cert", path(pages.https_cert.as_ref())),
        ("https-key", path(pages.https_key.as_ref())),
        ("api-token-file", path(flags.pages.api_token_file.as_ref())),
        ("console-users", path(flags.pages.console_users.as_ref())),
        ("log", path(flags.log.as_ref())),
        ("log-size-limit", flags.log_size_limit.0.to_string()),
        (
            "log-format",
            format!("{:?}", config.log.format).to_ascii_lowercase(),
        ),
        ("syslog", flags.syslog.to_string()),
        ("remote-syslog", text(flags.remote_syslog.as_ref())),
        ("debug", (config.log.level != LogLevel::Info).to_string()),
        ("trace", (config.log.level == LogLevel::Trace).to_string()),
        ("pid", path(config.pid_file.as_ref())),
    ];
    let mut values: Vec<Value> = all
        .into_iter()
        .map(|(name, value)| Value {
            name,
            value,
            from: sources.origin(name),
        })
        .collect();
    for channel in channel_entries(flags)? {
        values.push(Value {
            name: "channel-limits",
            value: channel.to_string(),
            from: match &channel.position {
                Some(position) => Origin::File(position.clone()),
                None => sources.origin("channel-limits"),
            },
        });
    }
    Ok(values)
}

/// What `values` hides, in whole or in part, to be compared and not to be shown.
pub fn secrets(sources: &Sources) -> [(&'static str, Option<Secret>); 6] {
    let flags = &sources.flags;
    let encryption = &flags.encryption;
    [
        ("database-url", flags.database.database_url.clone()),
        ("nats-server", flags.nats.nats_server.clone()),
        ("nats-password", flags.nats.nats_password.clone()),
        ("nats-token", flags.nats.nats_token.clone()),
        ("encryption-key", encryption.encryption_key.clone()),
        (
            "encryption-other-keys",
            encryption.encryption_other_keys.clone(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args as _;

    use super::*;
    use crate::config::ServeFlags;

    #[test]
    fn every_flag_is_shown_and_no_secret_is() {
        let args = [
            "--database-url=postgres://u:geheim@h/db",
            "--nats-server=nats://u:geheim@h:1",
            "--nats-user=u",
            "--nats-password=geheim",
            "--encryption-key=geheim",
            "--encryption-other-keys=geheim,geheim2",
            "--channel-limits=foo.>: max-age=1h, max-msgs=0",
        ];
        let sources = Sources::read(&args.map(Into::into)).unwrap();
        let values = values(&sources).unwrap();

        let shown: BTreeSet<&str> = values.iter().map(|value| value.name).collect();
        assert_eq!(shown.len(), values.len(), "each once");
        let serve = ServeFlags::augment_args(clap::Command::new("serve"));
        let flags = serve.get_arguments().filter_map(clap::Arg::get_long);
        let missing: Vec<&str> = flags.filter(|flag| !shown.contains(flag)).collect();
        // The source is shown as the database.
        assert_eq!(missing, ["config", "stan-config", "sql-source"]);
        assert!(!format!("{values:?}").contains("geheim"), "{values:?}");
        let limits = values.iter().find(|value| value.name == "channel-limits");
        let limits = limits.unwrap();
        assert_eq!(limits.value, "foo.>: max-msgs=0, max-age=1h0m0s");
        assert_eq!(limits.from, Origin::CommandLine);
    }
}
