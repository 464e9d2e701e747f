//! Which advisory lock makes a server the active.

use ring::digest;

/// The key of the lock that guards the tables of a schema.
///
/// It is made from the schema alone, and Postgres adds the database: the lock guards what it is about. Were the
/// cluster ID or the group part of it, two servers with a typing error between them would both be active on the
/// same tables. A stranger who uses the same key can keep servers from becoming active, but not make two of them.
pub fn lock_key(schema: &str) -> i64 {
    let digest = digest::digest(&digest::SHA256, format!("stanby\0{schema}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_never_changes_from_one_version_to_the_next() {
        // Servers of two versions must race for the same lock.
        assert_eq!(lock_key("stanby"), EXPECTED);
        assert_ne!(lock_key("stanby"), lock_key("stanby2"));
    }

    // printf 'stanby\0stanby' | sha256sum
    const EXPECTED: i64 = -1_303_769_506_889_813_595;
}
