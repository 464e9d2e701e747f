//! Which tables a server works on: what distinguishes the database of one group from the database of another that was given
//! the same cluster ID.

use std::fmt;

/// Which Postgres and which tables a session leads to. What a platform does not show is `None` and not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity {
    pub system_identifier: Option<i64>,
    pub timeline: Option<i32>,
    /// Stays when the database is renamed, and over failovers.
    pub database_oid: u32,
    pub database: String,
    pub schema: String,
    /// How the server reaches it: host and port, or a socket.
    pub address: String,
}

impl DatabaseIdentity {
    /// The same for all who work on these tables, whatever way leads to them, and over failovers of Postgres.
    pub fn tables(&self) -> String {
        let identifier = self.system_identifier.map(|it| it.to_string());
        format!(
            "{}/{:010}/{}",
            identifier.unwrap_or_default(),
            self.database_oid,
            self.schema
        )
    }

    /// False where it may be the same tables. Those of an old primary and of the one that was promoted in its place
    /// are not: what is written to one of them is not in the other.
    pub fn is_other_than(&self, other: &Self) -> bool {
        !self.may_be_copy_of(other) || differ(self.timeline, other.timeline)
    }

    /// The same tables, or those of an old primary.
    pub fn may_be_copy_of(&self, other: &Self) -> bool {
        self.database_oid == other.database_oid
            && self.schema == other.schema
            && !differ(self.system_identifier, other.system_identifier)
    }
}

fn differ<T: Copy + PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_some() && other.is_some() && one != other
}

/// Names are shown as literals: they may come from strangers.
impl fmt::Display for DatabaseIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            database,
            schema,
            address,
            ..
        } = self;
        write!(
            f,
            "schema {schema:?} of database {database:?} at {address:?}"
        )?;
        if let Some(identifier) = self.system_identifier {
            write!(f, ", system identifier {identifier}")?;
        }
        if let Some(timeline) = self.timeline {
            write!(f, ", timeline {timeline}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> DatabaseIdentity {
        DatabaseIdentity {
            system_identifier: Some(7),
            timeline: Some(1),
            database_oid: 5,
            database: "stan".to_owned(),
            schema: "stanby".to_owned(),
            address: "db:5432".to_owned(),
        }
    }

    #[test]
    fn the_way_to_tables_does_not_make_them_others() {
        let other = DatabaseIdentity {
            database: "renamed".to_owned(),
            address: "/run/.s.PGSQL.5432".to_owned(),
            ..identity()
        };
        assert!(!identity().is_other_than(&other));
        assert_eq!(identity().tables(), "7/0000000005/stanby");
        assert_eq!(identity().tables(), other.tables());
    }

    #[test]
    fn another_postgres_database_schema_or_primary_are_other_tables() {
        for other in [
            DatabaseIdentity {
                system_identifier: Some(8),
                ..identity()
            },
            DatabaseIdentity {
                database_oid: 6,
                ..identity()
            },
            DatabaseIdentity {
                schema: "stanby2".to_owned(),
                ..identity()
            },
            DatabaseIdentity {
                timeline: Some(2),
                ..identity()
            },
        ] {
            assert!(identity().is_other_than(&other), "{other}");
            let is_promoted = other.timeline == Some(2);
            assert_eq!(identity().may_be_copy_of(&other), is_promoted, "{other}");
        }
    }

    #[test]
    fn what_a_platform_does_not_tell_makes_no_difference() {
        let silent = DatabaseIdentity {
            system_identifier: None,
            timeline: None,
            ..identity()
        };
        assert!(!identity().is_other_than(&silent));
        assert!(!silent.is_other_than(&identity()));
    }
}
