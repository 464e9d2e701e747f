//! The files that a configuration names, opened as a server would open them, without asking anybody.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::database::Login;
use crate::config::log::LogTarget;
use crate::config::pages::PagesAddress;
use crate::dev::nats::find;
use crate::http::Certificate;
use crate::nats;
use crate::node::child_configuration;
use crate::node::nats_settings::nats_settings;
use crate::printable::with_causes;

/// What came out of it, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// A server does not start with these.
    pub errors: Vec<String>,
    /// What could not be looked at here.
    pub warnings: Vec<String>,
}

/// All that a server would read at its start: certificates, keys, logins, the log, and the configuration of the nats-server
/// that it would run.
pub async fn files(config: &Config) -> Files {
    let mut look = Look {
        named: named(config),
        ..Look::default()
    };
    look.of_database(config);
    look.of_pages(config).await;
    look.of_nats(config).await;
    look.of_named();
    look.of_log(config);
    look.files
}

#[derive(Default)]
struct Look {
    files: Files,
    /// What each file is that a server or its nats-server reads for TLS, and to log in.
    named: Vec<(String, PathBuf)>,
    /// Those that an error is about.
    reported: BTreeSet<PathBuf>,
}

fn named(config: &Config) -> Vec<(String, PathBuf)> {
    let mut named = Vec::new();
    let mut add = |what: &str, file: &Path| named.push((what.to_owned(), file.to_owned()));
    if let Some(pages) = &config.https {
        add("the certificate of the pages", &pages.certificate_file);
        add("the key of the pages' certificate", &pages.key_file);
    }
    let tls = &config.nats.tls;
    if let Some(file) = &tls.ca {
        add("the CA file for NATS", file);
    }
    if let Some((certificate, key)) = &tls.client {
        add("the client certificate for NATS", certificate);
        add("the key of the client certificate for NATS", key);
    }
    if let Some(file) = &config.nats.credentials {
        add("the credentials file", file);
    }
    if let Some(file) = &config.nats.nkey {
        add("the nkey seed file", file);
    }
    if let Some(managed) = &config.managed_nats {
        named.extend(child_configuration::tls_files(&managed.arguments));
        named.extend(managed.tls_files());
    }
    named
}

impl Look {
    fn add<E: std::error::Error>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.report(with_causes(&error));
        }
    }

    /// One file may be named for several things. What is wrong with it is reported once.
    fn report(&mut self, error: String) {
        let files = self.named.iter().map(|(_, file)| file);
        let about: Vec<PathBuf> = files.filter(|it| is_about(&error, it)).cloned().collect();
        if !about.is_empty() && about.iter().all(|file| self.reported.contains(file)) {
            return;
        }
        self.reported.extend(about);
        self.files.errors.push(error);
    }

    /// Each check ends with the first file that is of no use.
    fn of_named(&mut self) {
        for file in self.named.clone() {
            if !self.reported.contains(&file.1)
                && let Err(error) = child_configuration::ensure_readable(&file)
            {
                self.report(format!("{error:#}"));
            }
        }
    }

    fn of_database(&mut self, config: &Config) {
        let url = &config.database_url;
        // The same files for each place.
        if let Some(endpoint) = url.endpoints().first() {
            let login = Login {
                endpoint: endpoint.clone(),
                password: None,
                is_plain: false,
            };
            self.add(url.for_session_at(&login).map(drop));
        }
    }

    async fn of_pages(&mut self, config: &Config) {
        let plain = config.http.as_ref().map(PagesAddress::look_up);
        let secure = config.https.as_ref().map(|it| it.address.look_up());
        let errors = [plain, secure]
            .into_iter()
            .flatten()
            .filter_map(Result::err);
        let mut errors: Vec<String> = errors.map(|error| error.to_string()).collect();
        errors.dedup();
        self.files.errors.extend(errors);
        if let Some(pages) = &config.https {
            let certificate = Certificate {
                certificate_file: pages.certificate_file.clone(),
                key_file: pages.key_file.clone(),
            };
            self.add(certificate.check().await);
        }
    }

    async fn of_nats(&mut self, config: &Config) {
        let settings = nats_settings(&config.nats, String::new());
        self.add(nats::check_files(&settings).await);
        let Some(managed) = &config.managed_nats else {
            return;
        };
        let program = match find(managed.program.as_deref()) {
            Ok(program) => program,
            Err(error) => {
                let why = format!("what is for a nats-server was not looked at: {error}");
                self.files.warnings.push(why);
                return;
            }
        };
        let (text, arguments) = (managed.file(), &managed.arguments);
        match child_configuration::judge_text(&program, &text, arguments).await {
            Ok(judged) => {
                let warnings = judged.warnings.iter();
                let warnings = warnings.map(|it| format!("nats-server: {it}"));
                self.files.warnings.extend(warnings);
                for error in judged.errors {
                    self.report(format!("nats-server: {error}"));
                }
            }
            Err(error) => self.report(format!("nats-server: {error:#}")),
        }
    }

    fn of_log(&mut self, config: &Config) {
        let LogTarget::File { path, .. } = &config.log.target else {
            return;
        };
        let unusable = |why: String| format!("the log {} cannot be written: {why}", path.display());
        if path.exists() {
            if let Err(error) = OpenOptions::new().append(true).open(path) {
                self.files.errors.push(unusable(error.to_string()));
            }
            return;
        }
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        if folder.is_some_and(|folder| !Path::is_dir(folder)) {
            self.files
                .errors
                .push(unusable("there is no such directory".to_owned()));
        }
    }
}

/// Whether a file is named in a text, and not only a part of its path.
fn is_about(text: &str, file: &Path) -> bool {
    let file = file.display().to_string();
    let of_path = |c: char| c.is_alphanumeric() || ['/', '_', '-'].contains(&c);
    text.match_indices(&file).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + file.len()..]);
        let mut after = after.chars();
        let is_longer = match after.next() {
            Some('.') => after.next().is_some_and(of_path),
            next => next.is_some_and(of_path),
        };
        !before.ends_with(|c| of_path(c) || c == '.') && !is_longer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_an_error_by_its_whole_path() {
        let is_about = |text: &str, file: &str| is_about(text, Path::new(file));
        for text in ["open /a/c.pem: no such file", "(\"/a/c.pem\")", "/a/c.pem."] {
            assert!(is_about(text, "/a/c.pem"), "{text}");
        }
        for text in ["/a/c.pem.old", "/x/a/c.pem", "/a/c.pem/d", "./a/c.pem2"] {
            assert!(!is_about(text, "/a/c.pem"), "{text}");
        }
        assert!(!is_about("cannot be read: c.pem", "pem"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_reported_once() {
        let file = |name: &str| (name.to_owned(), PathBuf::from(name));
        let mut look = Look {
            named: ["a.pem", "b.pem"].map(file).to_vec(),
            ..Look::default()
        };
        for error in ["a.pem is none", "x", "open a.pem", "x", "a.pem, b.pem"] {
            look.report(error.to_owned());
        }
        assert_eq!(
            look.files.errors,
            ["a.pem is none", "x", "x", "a.pem, b.pem"]
        );
    }
}
