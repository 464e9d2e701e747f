//! What a reader should know of settings that mean something else here, or nothing.

use super::Origin;
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
}

/// It says how to read the file store that is imported, if one is.
pub(super) fn on_polynomial(config: &Config, origin: Option<&Origin>, notes: &mut Notes) {
    if config.import_dir.is_some() {
        return;
    }
    match origin {
        Some(Origin::File(place)) => notes.no_effect(format!("crc_poly ({place})")),
        Some(Origin::CommandLine | Origin::Environment(_)) => notes.no_effect("-file_crc_poly"),
        Some(Origin::Default) | None => {}
    }
}

/// The one user of a file for both is this server's login. Another one in its streaming block had no effect.
pub(super) fn on_login(found: &Found, config: &Config, notes: &mut Notes) {
    let login = [
        config.nats.user.as_deref(),
        config.nats.password.as_ref().map(Secret::expose),
        config.nats.token.as_ref().map(Secret::expose),
    ];
    for setting in found.settings.iter().filter(|it| it.is_login()) {
        if !login.contains(&Some(setting.text.as_str())) {
            notes.no_effect(format!(
                "the login of the streaming block ({}), beside the one in authorization",
                setting.place
            ));
        }
    }
}
