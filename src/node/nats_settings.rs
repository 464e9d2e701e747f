//! What the configuration says of NATS, as the adapter wants it.

use crate::config::nats::NatsTls;
use crate::config::{NatsConfig, Secret};
use crate::nats::settings::{ClientCertificate, Settings, Tls};

/// `name` is how the connection is called in NATS' monitoring.
pub fn nats_settings(config: &NatsConfig, name: String) -> Settings {
    let expose = |secret: &Secret| secret.expose().to_owned();
    Settings {
        user: config.user.clone(),
        password: config.password.as_ref().map(expose),
        token: config.token.as_ref().map(expose),
        credentials_file: config.credentials.clone(),
        nkey_seed_file: config.nkey.clone(),
        tls: tls(&config.tls),
        ..Settings::new(config.servers.clone(), name)
    }
}

fn tls(tls: &NatsTls) -> Tls {
    let client = tls.client.clone();
    Tls {
        required: tls.required,
        first: false,
        server_name: None,
        ca_file: tls.ca.clone(),
        client: client.map(|(certificate_file, key_file)| ClientCertificate {
            certificate_file,
            key_file,
        }),
    }
}
