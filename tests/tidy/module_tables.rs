//! A folder's `mod.rs` that says in a table what each of its files is for says so of all of them.

use super::{File, assert_holds_everywhere, complaints};

/// A row for what is not named one by one.
const THE_OTHERS: &str = "| the others |";

fn table_is_complete(file: &File) -> Vec<String> {
    let is_head = |line: &&str| line.starts_with("//!");
    let head: Vec<&str> = file.text.lines().filter(is_head).collect();
    let head = head.join("\n");
    if !file.path.ends_with("/mod.rs") || !head.contains("| file |") || head.contains(THE_OTHERS) {
        return Vec::new();
    }
    let modules = file.text.lines().filter_map(|line| {
        let name = line.strip_suffix(';')?.rsplit_once("mod ")?.1;
        line.starts_with(['m', 'p']).then_some(name)
    });
    modules
        .filter(|name| *name != "tests")
        .filter(|name| {
            !["`", ".rs`", "/`"]
                .map(|end| format!("`{name}{end}"))
                .iter()
                .any(|it| head.contains(it))
        })
        .map(|name| format!("the table at the head has no row for {name}"))
        .collect()
}

#[test]
fn each_file_of_a_folder_is_in_the_table_of_its_mod_rs() {
    assert_holds_everywhere(table_is_complete);
}

#[test]
fn a_file_without_a_row_is_noticed() {
    let head = "//! | file | what |\n//! | `a`, [`b`] | x |\n//! | `c.rs` | y |\n";
    let with = |modules: &str| {
        complaints(
            table_is_complete,
            "src/x/mod.rs",
            &format!("{head}\n{modules}"),
        )
    };
    assert!(with("mod a;\npub mod b;\npub(super) mod c;\nmod tests;\nuse a::b;\n").is_empty());
    assert_eq!(
        with("mod a;\nmod d;\n"),
        ["the table at the head has no row for d"]
    );
}
