//! Where things stand: SQL, subjects, waits, and how long a file may be.

use super::source::{module_of, shipped, without_comments};
use super::{File, Rule, assert_holds_everywhere, complaints};

/// Lines of a file past which it surely does more than one thing: in `src/`, and of tests.
const LINES_MAX: usize = 450;
const TEST_LINES_MAX: usize = 500;

fn sql_stands_where_the_tables_are_known(file: &File) -> Vec<String> {
    // Not CREATE DATABASE and the like: messages name those to administrators, the program runs none.
    const SQL: &[&str] = &[
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE FROM ",
        "TRUNCATE ",
        "CREATE TABLE ",
        "CREATE SCHEMA ",
        "CREATE INDEX ",
        "CREATE VIEW ",
        "CREATE OR REPLACE ",
        "ALTER TABLE ",
        "DROP TABLE ",
        "DROP SCHEMA ",
    ];
    let Some(module) = module_of(&file.path) else {
        return Vec::new();
    };
    if ["store", "leadership", "postgres"].contains(&module) {
        return Vec::new();
    }
    let mut code = without_comments(shipped(file));
    if file.path == "src/config/database/remedy.rs" {
        // Named to administrators, too: whom a table's policy holds for is theirs to say.
        code = code.replace("ALTER TABLE {}", "");
    }
    SQL.iter()
        .filter(|keyword| code.contains(**keyword))
        .map(|keyword| {
            format!(
                "`{}` belongs under store/ or leadership/",
                keyword.trim_end()
            )
        })
        .collect()
}

fn one_file_knows_the_subjects(file: &File) -> Vec<String> {
    let allowed = file.path == "src/protocol/subjects.rs" || !file.path.starts_with("src/");
    let code = without_comments(shipped(file));
    let named = code
        .match_indices("_STAN")
        .any(|(at, _)| !code[..at].ends_with(|before: char| before.is_ascii_alphanumeric()));
    if named && !allowed {
        vec![String::from(
            "`_STAN` may stand in src/protocol/subjects.rs only",
        )]
    } else {
        Vec::new()
    }
}

fn tests_wait_for_conditions(file: &File) -> Vec<String> {
    // In two pieces, so that this file keeps its own rule.
    const SLEEPS: &[&str] = &[concat!("sleep", "("), concat!("sleep", "_until(")];
    let tests = if file.path.starts_with("tests/") {
        file.text.as_str()
    } else {
        &file.text[shipped(file).len()..]
    };
    // A statement that Postgres takes long for is what some tests are about; nobody waits for it in place of a condition.
    let code = without_comments(tests).replace(concat!("PERFORM pg_sleep", "("), "");
    SLEEPS
        .iter()
        .filter(|call| code.contains(**call))
        .map(|call| format!("a test calls `{call}…)`: wait for the condition, with a limit"))
        .collect()
}

fn files_have_one_purpose(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let most = if file.path.starts_with("src/") {
        LINES_MAX
    } else {
        TEST_LINES_MAX
    };
    if lines > most {
        vec![format!(
            "{lines} lines are more than {most}: split it by purpose"
        )]
    } else {
        Vec::new()
    }
}

#[test]
fn sql_is_kept_in_the_store_and_the_leadership() {
    let rule: Rule = sql_stands_where_the_tables_are_known;
    let text = r#"let statement = "SELECT 1";"#;
    assert_ne!(complaints(rule, "src/node/a.rs", text), [""; 0]);
    assert_eq!(complaints(rule, "src/store/a.rs", text), [""; 0]);
    assert_eq!(
        complaints(rule, "src/node/a.rs", "// SELECT is not for here"),
        [""; 0]
    );
    assert_holds_everywhere(rule);
}

#[test]
fn subjects_are_made_in_one_place() {
    let rule: Rule = one_file_knows_the_subjects;
    let text = r#"let subject = "_STAN.pub";"#;
    assert_ne!(complaints(rule, "src/nats/a.rs", text), [""; 0]);
    assert_eq!(complaints(rule, "src/protocol/subjects.rs", text), [""; 0]);
    assert_eq!(
        complaints(rule, "src/http/a.rs", r#"let state = "FT_STANDBY";"#),
        [""; 0]
    );
    assert_holds_everywhere(rule);
}

#[test]
fn no_test_sleeps() {
    let rule: Rule = tests_wait_for_conditions;
    let text = concat!("tokio::time::sleep", "(LIMIT).await;");
    assert_ne!(complaints(rule, "tests/node/a.rs", text), [""; 0]);
    let unit = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{ {text} }}");
    assert_ne!(complaints(rule, "src/http/a.rs", &unit), [""; 0]);
    assert_ne!(complaints(rule, "src/http/a/tests.rs", text), [""; 0]);
    assert_eq!(complaints(rule, "src/http/a.rs", text), [""; 0]);
    let slow = concat!("BEGIN PERFORM pg_sleep", "(0.05); RETURN NEW; END");
    assert_eq!(complaints(rule, "tests/node/a.rs", slow), [""; 0]);
    let waits = concat!("SELECT pg_sleep", "(1)");
    assert_ne!(complaints(rule, "tests/node/a.rs", waits), [""; 0]);
    assert_holds_everywhere(rule);
}

#[test]
fn no_file_is_too_long() {
    let rule: Rule = files_have_one_purpose;
    for (path, most) in [("src/a.rs", LINES_MAX), ("tests/a.rs", TEST_LINES_MAX)] {
        assert_eq!(complaints(rule, path, &"\n".repeat(most)), [""; 0]);
        assert_ne!(complaints(rule, path, &"\n".repeat(most + 1)), [""; 0]);
    }
    assert_holds_everywhere(rule);
}
