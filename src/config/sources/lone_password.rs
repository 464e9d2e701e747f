//! A password without a user: the former server passed it over, and so may a start line that is left as it was.

use std::ffi::OsString;

use crate::config::file::{Found, Setting};
use crate::config::flags::ServeFlags;
use crate::config::notes::Notes;

const FLAG: &str = "nats-password";

/// Takes it out of the line and the file. One that belongs to a user of the file's nats-server stays, for somebody to
/// decide.
pub(super) fn without(
    args: &[OsString],
    line: &ServeFlags,
    found: &mut Found,
    notes: &mut Notes,
) -> Vec<OsString> {
    let is_named = line.nats.nats_user.as_ref();
    let has = |flag: &str| found.settings.iter().any(|it| it.flag == flag);
    let is_told = is_named.is_some_and(|user| !user.is_empty()) || has("nats-user");
    let names_users = found
        .nats
        .iter()
        .any(|it| it.key.eq_ignore_ascii_case("authorization"));
    if is_told || names_users {
        return args.to_vec();
    }
    let is_password = |arg: &&OsString| {
        let arg = arg.to_string_lossy();
        let value = arg.strip_prefix("--nats-password=");
        value.is_some_and(|value| !value.is_empty())
    };
    let (taken, kept): (Vec<&OsString>, Vec<&OsString>) = args.iter().partition(is_password);
    if !taken.is_empty() {
        notes.no_effect("-pass, without a user");
    }
    let (taken, settings): (Vec<Setting>, Vec<Setting>) = std::mem::take(&mut found.settings)
        .into_iter()
        .partition(|it| it.flag == FLAG);
    found.settings = settings;
    for setting in taken {
        notes.no_effect(format!(
            "the password without a user ({})",
            setting.position
        ));
    }
    kept.into_iter().cloned().collect()
}
