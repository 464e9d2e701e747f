//! What a reader should know of settings that mean something else here, or nothing.

use super::{Origin, is_other_than_postgres};
use crate::config::duration::GoDuration;
use crate::config::file::Found;
use crate::config::flags::ServeFlags;
use crate::config::notes::Notes;
use crate::config::secret::Secret;
use crate::config::serve::Config;

pub(super) fn on_store(flags: &ServeFlags, notes: &mut Notes) {
    if let Some(store) = &flags.store
        && !store.eq_ignore_ascii_case("sql")
    {
        notes.replaced(
            format!("store {}", store.to_ascii_lowercase()),
            "Postgres, which keeps everything over a restart",
        );
    }
    let is_sql = |store: &String| store.eq_ignore_ascii_case("sql");
    if !flags.store.as_ref().is_some_and(is_sql)
        && is_other_than_postgres(flags.sql_driver.as_deref())
    {
        notes.no_effect("the SQL driver and its source, without the store SQL");
    }
}

/// The former server took an interval or a time to answer of 0.
pub(super) fn on_heartbeats(flags: &ServeFlags, notes: &mut Notes) {
    let none = |given: Option<GoDuration>| given.filter(|given| given.to_std().is_zero());
    if let Some(interval) = none(flags.hb_interval) {
        notes.replaced(
            format!("a heartbeat interval of {interval}"),
            "1s (there, a client got its next heartbeat as soon as it had answered the last one)",
        );
    }
    if let Some(timeout) = none(flags.hb_timeout) {
        notes.replaced(
            format!("a heartbeat timeout of {timeout}"),
            "the default of 10s (there, no answer was in time, and every client was closed after a while)",
        );
    }
}

/// It says how to read the file store that is imported, if one is.
pub(super) fn on_polynomial(config: &Config, origin: Option<&Origin>, notes: &mut Notes) {
    if config.import_dir.is_some() {
        return;
    }
    match origin {
        Some(Origin::File(position)) => notes.no_effect(format!("crc_poly ({position})")),
        Some(Origin::CommandLine | Origin::Environment(_)) => notes.no_effect("-file_crc_poly"),
        Some(Origin::Default) | None => {}
    }
}

/// The one user of a file for both is this server's login. Another one in its streaming block had no effect.
pub(super) fn on_login(found: &Found, flags: &ServeFlags, config: &Config, notes: &mut Notes) {
    if flags.nats.is_login_in_every_url() {
        if flags.nats.login().is_some() {
            notes.no_effect(
                "the user, password or token for NATS, beside those in the URLs of its servers",
            );
        }
        return;
    }
    let login = [
        config.nats.user.as_deref(),
        config.nats.password.as_ref().map(Secret::expose),
        config.nats.token.as_ref().map(Secret::expose),
    ];
    for setting in found.settings.iter().filter(|it| it.is_login()) {
        if !login.contains(&Some(setting.text.as_str())) {
            notes.no_effect(format!(
                "the login of the streaming block ({}), beside the one in authorization",
                setting.position
            ));
        }
    }
}
