//! The files that a configuration names, opened as a server would open them, without asking anybody.

use std::fs::OpenOptions;
use std::path::Path;

use crate::config::Config;
use crate::config::database::Login;
use crate::config::log::LogTarget;
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
    let mut files = Files::default();
    files.of_database(config);
    files.of_pages(config).await;
    files.of_nats(config).await;
    files.of_log(config);
    files
}

impl Files {
    fn add<E: std::error::Error>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.errors.push(with_causes(&error));
        }
    }

    fn of_database(&mut self, config: &Config) {
        let url = &config.database_url;
        // The same files for each place.
        if let Some(place) = url.places().first() {
            let login = Login {
                place: place.clone(),
                password: None,
                is_plain: false,
            };
            self.add(url.for_session_at(&login).map(drop));
        }
    }

    async fn of_pages(&mut self, config: &Config) {
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
                self.warnings.push(why);
                return;
            }
        };
        let (text, arguments) = (managed.file(), &managed.arguments);
        if let Err(error) = child_configuration::check_text(&program, &text, arguments).await {
            self.errors.push(format!("nats-server: {error:#}"));
        }
    }

    fn of_log(&mut self, config: &Config) {
        let LogTarget::File { path, .. } = &config.log.target else {
            return;
        };
        let unusable = |why: String| format!("the log {} cannot be written: {why}", path.display());
        if path.exists() {
            if let Err(error) = OpenOptions::new().append(true).open(path) {
                self.errors.push(unusable(error.to_string()));
            }
            return;
        }
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        if folder.is_some_and(|folder| !Path::is_dir(folder)) {
            self.errors
                .push(unusable("there is no such directory".to_owned()));
        }
    }
}
