//! What is said when NATS cannot be reached or does not let in.

use std::error::Error as _;

use stanby::nats::{Connection, Error};
use tokio_util::task::TaskTracker;

use crate::nats::settings;
use crate::support::nats::own_server;

/// Acceptance: 168, 170.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_to_connect_says_where_and_what_to_do_and_no_secret() {
    let tasks = TaskTracker::new();
    let Some(mut nats) = own_server(&["--user", "stan", "--pass", "secret"]).await else {
        return;
    };
    let url = nats.url();

    let mut settings = settings(&nats);
    settings.user = Some("stan".to_owned());
    settings.password = Some("wrong-secret".to_owned());
    let refused = Connection::open(&settings, &tasks).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthorized { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&url), "{refused}");
    assert!(!format!("{refused} {refused:?} {settings:?}").contains("wrong-secret"));

    settings.password = Some("secret".to_owned());
    Connection::open(&settings, &tasks).await.unwrap();

    nats.stop(std::time::Duration::from_secs(10)).await.unwrap();
    let unreachable = Connection::open(&settings, &tasks).await.unwrap_err();
    assert!(
        matches!(unreachable, Error::Unreachable { .. }),
        "{unreachable:?}"
    );
    assert!(unreachable.to_string().contains(&url), "{unreachable}");
    assert!(unreachable.source().is_some());

    settings.servers = vec!["nats://me:url-secret@127.0.0.1".to_owned()];
    let invalid = Connection::open(&settings, &tasks).await.unwrap_err();
    assert!(matches!(invalid, Error::InvalidSettings(_)), "{invalid:?}");
    assert!(!format!("{invalid} {invalid:?} {settings:?}").contains("url-secret"));
}
