//! Where a command finds the tables of servers: by flags of its own, or by the configuration file of a server.

use std::path::PathBuf;

use clap::Args;

use super::database::DatabaseUrl;
use super::error::Error;
use super::file::{self, Part};
use super::flags::DatabaseFlags;
use super::sources::named;

/// The flags of every command that looks at the tables and is no server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Postgres")]
pub struct TablesFlags {
    #[command(flatten)]
    database: DatabaseFlags,

    /// Configuration file of a server: names the database and the schema that are not given otherwise
    #[arg(long, env = "STANBY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl TablesFlags {
    /// Whether anything says where the tables are.
    pub fn is_given(&self) -> bool {
        !self.database.is_missing() || self.config.is_some()
    }

    /// The database and the schema. Reads the file, and nothing of it but these two, so that what else a server is
    /// given (its keys, say) may be missing here.
    pub fn read(&self) -> Result<(DatabaseUrl, String), Error> {
        let settings = match &self.config {
            Some(path) => file::read(path, Part::Both)?.settings,
            None => Vec::new(),
        };
        let in_file = |flag: &str| settings.iter().find(|setting| setting.flag == flag);
        let mut database = self.database.clone();
        let mut positions = (None, None);
        if database.is_missing()
            && let Some(setting) = in_file("database-url")
        {
            database.database_url = Some(setting.text.clone().into());
            positions.0 = Some(&setting.position);
        }
        if database.schema.is_none()
            && let Some(setting) = in_file("schema")
        {
            database.schema = Some(setting.text.clone());
            positions.1 = Some(&setting.position);
        }
        if database.is_missing() {
            return Err(Error::new(
                "the database is missing; give --database-url postgres://user:password@host:5432/database, set \
                 STANBY_DATABASE_URL, or name the file of a server with --config",
            ));
        }
        let url = database.url().map_err(|error| named(positions.0, &error))?;
        let schema = database
            .schema()
            .map_err(|error| named(positions.1, &error))?;
        Ok((url, schema))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        tables: TablesFlags,
    }

    /// The address of the database and the schema, or what is wrong.
    fn read(file: &str, flags: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let is_former = file.contains("streaming");
        let path = folder.path().join(if is_former {
            "stan.conf"
        } else {
            "stanby.toml"
        });
        std::fs::write(&path, file).unwrap();
        let path = path.to_str().unwrap();
        let args = ["command", "--config", path].into_iter();
        let command = Command::try_parse_from(args.chain(flags.iter().copied())).unwrap();
        match command.tables.read() {
            Ok((url, schema)) => format!("{} {schema}", url.address()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_servers_file_tells_what_no_flag_does() {
        // The key that the servers encrypt with is nowhere.
        let native =
            "database_url = \"postgres://u@db.example/d\"\nschema = \"team\"\nencrypt = true\n";
        let former = "streaming { store: sql, sql_options { driver: postgres, source: \"postgres://u@db.example/d\" } }";
        assert_eq!(read(native, &[]), "db.example:5432 team");
        assert_eq!(read(former, &[]), "db.example:5432 stanby");
        let another = read(native, &["--database-url=postgres://u@other/d"]);
        assert_eq!(another, "other:5432 team");
        let schema = read(native, &["--schema=stanby"]);
        assert_eq!(schema, "db.example:5432 stanby");
    }

    #[test]
    fn a_mistake_in_the_file_is_told_with_its_place() {
        let error = read("\ndatabase_url = \"mysql://h/d\"\n", &[]);
        assert!(error.contains("stanby.toml:2:"), "{error}");
        let error = read("schema = \"team\"\n", &[]);
        assert!(error.contains("the database is missing"), "{error}");
        assert!(error.contains("--config"), "{error}");
    }
}
