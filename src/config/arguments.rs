//! Turns the command line of `nats-streaming-server` into ours, so that existing unit files and manifests work.
//!
//! Go's `flag` rules hold for `serve`: one dash or two, `-x value` or `-x=value`, booleans only `-x` or `-x=false`,
//! the last one wins. Which flags there are and which of them are booleans is read from the clap command, so
//! only spellings that do not follow from ours are listed here. Values are clap's business.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::error::Error;
use super::notes::Notes;
use super::spellings::{ALIASES, IGNORED, INSTEAD_OF_RAFT, OF_NATS_SERVER, OF_RAFT};

#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// With the program's name first.
    pub args: Vec<OsString>,
    /// Flags that were understood and mean something else here, or nothing.
    pub notes: Notes,
}

/// First arguments that speak to the program and not to `serve`.
const ABOUT: &[&str] = &["-h", "-help", "--help", "-v", "-version", "-V", "--version"];

enum Meaning<'a> {
    /// One of our flags, by its long name.
    Flag(&'a clap::Arg),
    DebugAndTrace,
    Help,
    /// Only looks at the configuration.
    Check,
    /// Only signals a server that runs.
    Signal,
    Ignored {
        takes_value: bool,
    },
    /// For the nats-server that this server runs.
    OfNatsServer {
        takes_value: bool,
    },
    OfRaft {
        takes_value: bool,
    },
    Unknown,
}

/// Prepares a command line for clap. `serve` is clap's command of that name; other commands pass unchanged.
pub fn normalise(
    args: impl IntoIterator<Item = OsString>,
    serve: &clap::Command,
) -> Result<Arguments, Error> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "stanby".into());
    let mut rest = args.peekable();
    let is_former =
        |path: &OsStr| Path::new(path).file_stem() == Some(OsStr::new("nats-streaming-server"));
    let mut stands_in = is_former(&program);
    // As an image passes it that has this program for its entry point.
    if rest.peek().is_some_and(|first| is_former(first)) {
        stands_in = true;
        rest.next();
    }
    let first = rest
        .peek()
        .and_then(|first| first.to_str())
        .unwrap_or_default();
    if matches!(first, "-v" | "-version" | "--version") {
        return Ok(plain(program, ["--version".into()]));
    }
    let about = ABOUT.contains(&first) && !stands_in;
    let mut command = vec![OsString::from("serve")];
    if first == "serve" {
        rest.next();
    } else if first == "doctor" {
        command = vec![rest.next().unwrap_or_default()];
    } else if first == "config" {
        let config = rest.next();
        match rest.peek().and_then(|second| second.to_str()) {
            Some("check" | "show") => command = config.into_iter().chain(rest.next()).collect(),
            Some(_) | None => return Ok(plain(program, config.into_iter().chain(rest))),
        }
    } else if about && first == "-help" {
        return Ok(plain(program, ["--help".into()]));
    } else if about || !(stands_in || first.starts_with('-')) {
        return Ok(plain(program, rest));
    }

    let mut normal = Normaliser {
        serve,
        // `config check FILE -cid x`: there, an argument that is no flag does not end them.
        takes_files: command.len() > 1,
        args: Vec::new(),
        notes: Notes::default(),
        raft: Vec::new(),
        is_clustered: false,
        checks: false,
        signal: None,
    };
    normal.walk(rest)?;
    normal.note_raft();
    if let Some(signal) = normal.signal {
        return Ok(plain(program, ["signal".into(), signal]));
    }
    if normal.checks {
        command = vec!["config".into(), "check".into()];
    }
    let program = std::iter::once(program);
    Ok(Arguments {
        args: program.chain(command).chain(normal.args).collect(),
        notes: normal.notes,
    })
}

fn plain(program: OsString, rest: impl IntoIterator<Item = OsString>) -> Arguments {
    Arguments {
        args: std::iter::once(program).chain(rest).collect(),
        notes: Notes::default(),
    }
}

struct Normaliser<'a> {
    serve: &'a clap::Command,
    takes_files: bool,
    args: Vec<OsString>,
    notes: Notes,
    /// Flags of Raft mode, as they were written.
    raft: Vec<String>,
    is_clustered: bool,
    checks: bool,
    signal: Option<OsString>,
}

impl Normaliser<'_> {
    fn walk(&mut self, mut rest: impl Iterator<Item = OsString>) -> Result<(), Error> {
        while let Some(arg) = rest.next() {
            let body = arg.to_str().and_then(flag_body).map(str::to_owned);
            let Some(body) = body else {
                if self.takes_files {
                    self.args.push(arg);
                    continue;
                }
                // As in Go, flags end here; clap says that nothing else is expected.
                self.args.push(arg);
                self.args.extend(rest);
                return Ok(());
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (body.as_str(), None),
            };
            self.flag(name, value, &mut rest)?;
        }
        Ok(())
    }

    fn flag(
        &mut self,
        name: &str,
        value: Option<OsString>,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        match meaning(name, self.serve) {
            Meaning::Flag(flag) => self.push(name, flag, value.or_else(|| next_for(flag, rest)))?,
            Meaning::DebugAndTrace => {
                let on = boolean(name, value)?;
                self.args.push(format!("--debug={on}").into());
                self.args.push(format!("--trace={on}").into());
            }
            Meaning::Help => self.args.push("--help".into()),
            Meaning::Check => self.checks = boolean(name, value)?,
            Meaning::Signal => self.signal = Some(needed(name, value, rest)?),
            Meaning::Ignored { takes_value } => {
                if takes_value && value.is_none() {
                    rest.next();
                }
                self.notes.no_effect(format!("-{name}"));
            }
            Meaning::OfNatsServer { takes_value } => {
                let mut arg = OsString::from(format!("--nats-server-arg=--{name}"));
                let value = if takes_value {
                    Some(needed(name, value, rest)?)
                } else {
                    value
                };
                if let Some(value) = value {
                    arg.push("=");
                    arg.push(value);
                }
                self.args.push(arg);
            }
            Meaning::OfRaft { takes_value } => {
                if name == "clustered" {
                    self.is_clustered = boolean(name, value)?;
                } else if takes_value && value.is_none() {
                    rest.next();
                }
                self.raft.push(format!("-{name}"));
            }
            Meaning::Unknown => {
                let long = name.replace('_', "-");
                self.args.push(joined(&long, value));
            }
        }
        Ok(())
    }

    /// Without -clustered the others had no effect there either.
    fn note_raft(&mut self) {
        for flag in std::mem::take(&mut self.raft) {
            if self.is_clustered {
                self.notes.replaced(flag, INSTEAD_OF_RAFT);
            } else {
                self.notes.no_effect(flag);
            }
        }
    }

    fn push(&mut self, name: &str, flag: &clap::Arg, value: Option<OsString>) -> Result<(), Error> {
        let long = flag.get_long().unwrap_or(name);
        if is_switch(flag) {
            let on = boolean(name, value)?;
            self.args.push(format!("--{long}={on}").into());
        } else {
            self.args.push(joined(long, value));
        }
        Ok(())
    }
}

/// The flag without its dashes, if it is one.
fn flag_body(arg: &str) -> Option<&str> {
    let body = arg.strip_prefix('-')?;
    let body = body.strip_prefix('-').unwrap_or(body);
    (!body.is_empty() && !body.starts_with(['-', '='])).then_some(body)
}

fn meaning<'a>(name: &str, serve: &'a clap::Command) -> Meaning<'a> {
    let alias = ALIASES
        .iter()
        .find(|(theirs, _)| *theirs == name)
        .map(|(_, ours)| *ours);
    let long = alias.map_or_else(|| name.replace('_', "-"), str::to_owned);
    if let Some(flag) = serve
        .get_arguments()
        .find(|flag| flag.get_long() == Some(&long))
    {
        return Meaning::Flag(flag);
    }
    match name {
        "h" | "help" | "help_tls" => return Meaning::Help,
        "SDV" => return Meaning::DebugAndTrace,
        "t" => return Meaning::Check,
        "sl" | "signal" => return Meaning::Signal,
        _ => {}
    }
    if let Some((_, takes_value)) = IGNORED.iter().find(|(theirs, _)| *theirs == name) {
        return Meaning::Ignored {
            takes_value: *takes_value,
        };
    }
    let find =
        |flags: &[(&'static str, bool)]| flags.iter().find(|(theirs, _)| *theirs == name).copied();
    if let Some((_, takes_value)) = find(OF_NATS_SERVER) {
        return Meaning::OfNatsServer { takes_value };
    }
    match find(OF_RAFT) {
        Some((_, takes_value)) => Meaning::OfRaft { takes_value },
        None => Meaning::Unknown,
    }
}

/// A flag that may stand without a value never takes the next argument.
fn is_switch(flag: &clap::Arg) -> bool {
    !flag.get_action().takes_values()
        || flag
            .get_num_args()
            .is_some_and(|range| range.min_values() == 0)
}

fn next_for(flag: &clap::Arg, rest: &mut impl Iterator<Item = OsString>) -> Option<OsString> {
    if is_switch(flag) { None } else { rest.next() }
}

/// Joined, so that a value that begins with a dash stays a value.
fn joined(long: &str, value: Option<OsString>) -> OsString {
    let mut arg = OsString::from(format!("--{long}"));
    if let Some(value) = value {
        arg.push("=");
        arg.push(value);
    }
    arg
}

fn needed(
    name: &str,
    value: Option<OsString>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, Error> {
    let value = value.or_else(|| rest.next());
    value.ok_or_else(|| Error::new(format!("-{name} needs a value after it")))
}

fn boolean(name: &str, value: Option<OsString>) -> Result<bool, Error> {
    let Some(value) = value else { return Ok(true) };
    match value.to_str() {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        _ => Err(Error::new(format!(
            "-{name} is on or off; write -{name} or -{name}=false"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::config::ServeFlags;

    fn normalised(line: &str) -> Result<Arguments, Error> {
        let serve = ServeFlags::augment_args(clap::Command::new("serve"));
        normalise(
            line.split(' ')
                .filter(|word| !word.is_empty())
                .map(OsString::from),
            &serve,
        )
    }

    fn shown(line: &str) -> String {
        let args = normalised(line).unwrap().args;
        args.iter()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Acceptance: 165.
    #[test]
    fn spellings_of_nats_streaming_become_ours() {
        let cases = [
            ("-cid x", "--cluster-id=x"),
            ("--cid=x", "--cluster-id=x"),
            ("-cluster_id x", "--cluster-id=x"),
            ("--cluster-id x", "--cluster-id=x"),
            ("-ns nats://h:1", "--nats-server=nats://h:1"),
            ("-nats_server=nats://h:1", "--nats-server=nats://h:1"),
            ("-ft_group g", "--ft-group=g"),
            (
                "-sql_source postgres://h/d?a=b",
                "--sql-source=postgres://h/d?a=b",
            ),
            ("-sql_driver postgres", "--sql-driver=postgres"),
            ("-store=SQL", "--store=SQL"),
            ("-st sql", "--store=sql"),
            ("--store SQL -cid x", "--store=SQL --cluster-id=x"),
            (
                "-sc a.conf -c b.conf",
                "--stan-config=a.conf --config=b.conf",
            ),
            (
                "-stan_config a.conf -config=b.conf",
                "--stan-config=a.conf --config=b.conf",
            ),
            (
                "-l x.log -s -r udp://h:1 -P x.pid",
                "--log=x.log --syslog=true --remote-syslog=udp://h:1 --pid=x.pid",
            ),
            (
                "-secure -tls_client_cacert ca.pem",
                "--nats-tls=true --nats-tls-ca=ca.pem",
            ),
            (
                "-tls_client_cert c.pem -tls_client_key k.pem",
                "--nats-tls-cert=c.pem --nats-tls-key=k.pem",
            ),
            ("-m 8222", "--http-port=8222"),
            ("-http_port 8222", "--http-port=8222"),
            (
                "-hbi 1s -hbt 2s -hbf 3",
                "--hb-interval=1s --hb-timeout=2s --hb-fail-count=3",
            ),
            ("-hb_interval 1s", "--hb-interval=1s"),
            (
                "-hb_timeout 1s -hb_fail_count 2",
                "--hb-timeout=1s --hb-fail-count=2",
            ),
            (
                "-mc 1 -msu 2 -mm -1",
                "--max-channels=1 --max-subs=2 --max-msgs=-1",
            ),
            (
                "-mb 1KB -ma 1h -mi 2h",
                "--max-bytes=1KB --max-age=1h --max-inactivity=2h",
            ),
            (
                "-max_channels 1 -max_subs 2",
                "--max-channels=1 --max-subs=2",
            ),
            ("-max_msgs 1 -max_bytes 2", "--max-msgs=1 --max-bytes=2"),
            (
                "-max_age 1h -max_inactivity 2h",
                "--max-age=1h --max-inactivity=2h",
            ),
            ("-SD", "--debug=true"),
            ("-stan_debug -cid x", "--debug=true --cluster-id=x"),
            ("-SV=false", "--trace=false"),
            ("-replace_durable", "--replace-durable=true"),
            ("-SDV", "--debug=true --trace=true"),
            ("-SDV=F", "--debug=false --trace=false"),
            ("--debug", "--debug=true"),
            ("-user u -pass p", "--nats-user=u --nats-password=p"),
            ("-auth t", "--nats-token=t"),
            ("-cid", "--cluster-id"),
            ("-cid=", "--cluster-id="),
            ("-SD false", "--debug=true false"),
            ("-max_mgs 5", "--max-mgs 5"),
            ("-- -cid x", "-- -cid x"),
            ("---cid x", "---cid x"),
        ];
        for (theirs, ours) in cases {
            let expected = format!("stanby serve {ours}");
            assert_eq!(
                shown(&format!("stanby {theirs}")),
                expected.trim_end(),
                "{theirs}"
            );
            assert_eq!(
                shown(&format!("stanby serve {theirs}")),
                expected.trim_end(),
                "{theirs}"
            );
        }
    }

    #[test]
    fn the_name_of_the_reference_means_serve() {
        assert_eq!(
            shown("/usr/bin/nats-streaming-server"),
            "/usr/bin/nats-streaming-server serve"
        );
        assert_eq!(
            shown("nats-streaming-server -cid x"),
            "nats-streaming-server serve --cluster-id=x"
        );
        assert_eq!(
            shown("nats-streaming-server -v"),
            "nats-streaming-server --version"
        );
        assert_eq!(
            shown("nats-streaming-server -h"),
            "nats-streaming-server serve --help"
        );
    }

    #[test]
    fn other_commands_pass_unchanged() {
        let lines = [
            "stanby",
            "stanby --help",
            "stanby -V",
            "stanby pub foo -cid x",
            "stanby sub -- -x",
        ];
        for line in lines {
            assert_eq!(shown(line), line);
        }
        assert_eq!(shown("stanby -help"), "stanby --help");
        assert_eq!(shown("stanby -version"), "stanby --version");
    }

    #[test]
    fn flags_without_effect_are_named_once_each_and_take_their_value_along() {
        let arguments =
            normalised("stanby -file_crc -sql_max_open_conns 5 -io_batch_size=3 -cid x").unwrap();

        assert_eq!(arguments.args, ["stanby", "serve", "--cluster-id=x"]);
        let told = arguments.notes.to_string();
        let list = ": -file_crc, -sql_max_open_conns, -io_batch_size";
        assert!(told.ends_with(list), "{told}");
    }

    #[test]
    fn a_line_that_checks_or_signals_becomes_another_command() {
        for (theirs, ours) in [
            ("-c a.conf -t", "config check --config=a.conf"),
            ("serve -t=false -cid x", "serve --cluster-id=x"),
            (
                "config check a.conf -cid x",
                "config check a.conf --cluster-id=x",
            ),
            ("config show -cid x", "config show --cluster-id=x"),
            ("config convert a.conf", "config convert a.conf"),
            ("-sl stop=12", "signal stop=12"),
            ("--signal reload", "signal reload"),
        ] {
            assert_eq!(shown(&format!("stanby {theirs}")), format!("stanby {ours}"));
        }
    }

    /// Acceptance: 129.
    #[test]
    fn what_cannot_be_kept_is_refused_with_what_to_do() {
        for (flag, text) in [
            ("-SD=maybe", "-SD is on or off; write -SD or -SD=false"),
            ("-sl", "-sl needs a value after it"),
        ] {
            let error = normalised(&format!("stanby {flag}")).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn flags_of_the_nats_server_inside_go_to_the_one_beside() {
        for (theirs, ours) in [
            (
                "-p 4222 -a=0.0.0.0",
                "--nats-server-arg=--p=4222 --nats-server-arg=--a=0.0.0.0",
            ),
            (
                "-D -DV=false",
                "--nats-server-arg=--D --nats-server-arg=--DV=false",
            ),
            (
                "-cluster nats://0.0.0.0:6222 -cid x",
                "--nats-server-arg=--cluster=nats://0.0.0.0:6222 --cluster-id=x",
            ),
        ] {
            assert_eq!(
                shown(&format!("stanby {theirs}")),
                format!("stanby serve {ours}")
            );
        }
    }

    #[test]
    fn raft_is_replaced_where_it_was_on_and_without_effect_where_it_was_not() {
        let told = |line: &str| normalised(line).unwrap().notes.to_string();
        let on = told("stanby -cluster_node_id a --clustered -cluster_peers a,b");
        let list = "replaced: -cluster_node_id, -clustered, -cluster_peers by the lock in Postgres";
        assert!(on.contains(list) && !on.contains("no effect"), "{on}");

        let off = told("stanby -cluster_node_id a -cluster_peers a,b -clustered=false");
        let list = ": -cluster_node_id, -cluster_peers, -clustered";
        assert!(off.ends_with(list), "{off}");
    }

    #[test]
    fn an_image_passes_the_former_program_as_the_first_argument() {
        for first in ["nats-streaming-server", "/nats-streaming-server"] {
            assert_eq!(
                shown(&format!("stanby {first} -cid x")),
                "stanby serve --cluster-id=x"
            );
            assert_eq!(shown(&format!("stanby {first}")), "stanby serve");
        }
    }
}
