//! From what the operator says about NATS to what the adapter wants to know.

use std::time::Duration;

use crate::config::nats::{NatsLogin, NatsTls};
use crate::config::{NatsConfig, Secret};
use crate::nats::Settings;
use crate::nats::settings::{ClientCertificate, Tls, UserLogin};

/// The settings of a server. It has a lease to keep, so it checks a NATS server that is silent for half of it.
pub(crate) fn nats_settings_of_server(
    config: &NatsConfig,
    name: String,
    lease: Duration,
) -> Settings {
    Settings {
        silence: lease / 2,
        ..nats_settings(config, name)
    }
}

/// `name`: how the connection is called in the NATS server's monitoring.
pub(crate) fn nats_settings(config: &NatsConfig, name: String) -> Settings {
    let expose = |secret: &Secret| secret.expose().to_owned();
    Settings {
        user: config.user.clone(),
        password: config.password.as_ref().map(expose),
        token: config.token.as_ref().map(expose),
        logins: config.logins.iter().map(own).collect(),
        credentials_file: config.credentials.clone(),
        nkey_seed_file: config.nkey.clone(),
        tls: tls(&config.tls),
        ..Settings::new(config.servers.clone(), name)
    }
}

fn own((server, login): &(String, NatsLogin)) -> (String, UserLogin) {
    let expose = |secret: &Secret| secret.expose().to_owned();
    let login = UserLogin {
        user: login.user.clone(),
        password: login.password.as_ref().map(expose),
        token: login.token.as_ref().map(expose),
    };
    (server.clone(), login)
}

fn tls(tls: &NatsTls) -> Tls {
    let client = tls.client.clone();
    Tls {
        required: tls.required,
        first: tls.first,
        demand: tls.demand,
        ca_file: tls.ca.clone(),
        ca_is: tls.ca_is,
        client: client.map(|(certificate_file, key_file)| ClientCertificate {
            certificate_file,
            key_file,
        }),
        server_name: tls.server_name.clone(),
    }
}
