//! What the caller asks for.

use std::path::PathBuf;

use crate::loads::{LOADS, Load};

pub(crate) const USAGE: &str = "\
usage: scripts/compare [--rounds COUNT] [--quick] [--load NAME]... [--without NAME]... [--at-least RATIO] [PROGRAM]...

Puts the same load on each PROGRAM (a STAN server: nats-streaming-server, with its memory store and with its file store, or
another stanby, with a standby), on JetStream of the installed nats-server, and on this stanby, in turn; prints one table of
medians and keeps each run in target/compare/runs.json.

  --rounds COUNT     rounds of each load (5)
  --quick            a tenth of the messages, one round: whether everything works
  --load NAME        only this load: 10x128, 1x128, 1+1x1k, 10+10x1k, sync
  --without NAME     leave out: jetstream, alone (this stanby without a standby)
  --at-least RATIO   fail when this stanby, with its standby, has less than RATIO times the rate of a PROGRAM";

pub(crate) const WITHOUT: [&str; 2] = ["jetstream", "alone"];

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) programs: Vec<PathBuf>,
    pub(crate) rounds: usize,
    pub(crate) at_least: Option<f64>,
    quick: bool,
    loads: Vec<String>,
    without: Vec<String>,
}

impl Options {
    /// Refuses what it does not know, with a sentence.
    pub(crate) fn of_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            programs: Vec::new(),
            rounds: 0,
            at_least: None,
            quick: false,
            loads: Vec::new(),
            without: Vec::new(),
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} wants a value"))
            };
            match argument.as_str() {
                // Cargo's.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--rounds" => {
                    let rounds = value()?;
                    let number = rounds.parse().ok().filter(|&rounds| rounds > 0);
                    options.rounds =
                        number.ok_or_else(|| format!("--rounds {rounds} is no number from 1"))?;
                }
                "--at-least" => {
                    let ratio = value()?;
                    let number = ratio.parse().ok().filter(|&ratio: &f64| ratio > 0.0);
                    let ratio = number.ok_or_else(|| format!("--at-least {ratio} is no ratio"))?;
                    options.at_least = Some(ratio);
                }
                "--load" => {
                    let name = value()?;
                    if LOADS.iter().all(|load| load.name != name) {
                        return Err(format!("there is no load {name:?}"));
                    }
                    options.loads.push(name);
                }
                "--without" => {
                    let name = value()?;
                    if !WITHOUT.contains(&name.as_str()) {
                        return Err(format!("--without does not know {name:?}"));
                    }
                    options.without.push(name);
                }
                flag if flag.starts_with('-') => return Err(format!("{flag} is no flag")),
                program => options.programs.push(PathBuf::from(program)),
            }
        }
        if options.at_least.is_some() && options.programs.is_empty() {
            return Err("--at-least compares with a PROGRAM: name one".to_owned());
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 1 } else { 5 };
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, load: &Load) -> bool {
        self.loads.is_empty() || self.loads.iter().any(|name| name == load.name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.without.iter().any(|without| without == name)
    }

    /// Messages of a run.
    pub(crate) fn count(&self, load: &Load) -> u64 {
        load.count / if self.quick { 10 } else { 1 }
    }
}
