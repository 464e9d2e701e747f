//! Files that libpq looks at where nothing names them: services, passwords, root certificates. Behind a trait, so that what
//! a URL means can be judged without any.

use std::path::PathBuf;

use super::InvalidDatabaseUrl;

pub(super) trait Files {
    /// The settings of a service.
    fn service(&self, name: &str) -> Result<Vec<(String, String)>, InvalidDatabaseUrl>;
    /// The file of passwords, if there is one.
    fn default_passwords(&self) -> Option<PathBuf>;
    /// The root certificates, if there are any.
    fn default_root(&self) -> Option<PathBuf>;
}

/// Those of the user whom the process runs as.
pub(super) struct Home;

impl Home {
    fn file(name: &str) -> Option<PathBuf> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(PathBuf::from(home).join(name)).filter(|path| path.is_file())
    }
}

impl Files for Home {
    fn service(&self, name: &str) -> Result<Vec<(String, String)>, InvalidDatabaseUrl> {
        let named = std::env::var_os("PGSERVICEFILE").map(PathBuf::from);
        let system = std::env::var_os("PGSYSCONFDIR").map(PathBuf::from);
        let system = system.unwrap_or_else(|| "/etc/postgresql-common".into());
        let file = named
            .or_else(|| Self::file(".pg_service.conf"))
            .unwrap_or_else(|| system.join("pg_service.conf"));
        let text = std::fs::read_to_string(&file).map_err(|error| {
            format!(
                "the file of services {} cannot be read: {error}",
                file.display()
            )
        })?;
        find(&text, name).ok_or_else(|| {
            let file = file.display();
            format!("{file} has no section [{name}]; name another service, or add it").into()
        })
    }

    fn default_passwords(&self) -> Option<PathBuf> {
        Self::file(".pgpass")
    }

    fn default_root(&self) -> Option<PathBuf> {
        Self::file(".postgresql/root.crt")
    }
}

/// Finds a section in lines of `[name]` and `key=value`.
fn find(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let section = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'));
        section == Some(name)
    })?;
    let settings = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    Some(settings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_what_stands_between_its_name_and_the_next() {
        let text = "[other]\nhost=o\n\n[mine]\n# mine\nhost=h\nport = 5433\n[last]\nhost=l\n";
        let found = find(text, "mine").unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found, [pair("host", "h"), pair("port", "5433")]);
        assert_eq!(find(text, "none"), None);
    }
}
