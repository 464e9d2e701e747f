//! The format of NATS: what each construct gives, where mistakes are, and that no text does harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use stanby::config::Error;
use stanby::config::file::parser::{Outside, parse};
use stanby::config::file::value::{Kind, Table};

#[derive(Default)]
struct World {
    files: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, &'static str>,
}

impl Outside for World {
    fn include(&self, path: &str, _from: &str) -> Result<(Arc<str>, String), Error> {
        let text = self.files.get(path);
        let text = text.ok_or_else(|| Error::new("no such file"))?;
        Ok((path.into(), text.clone()))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|&text| text.to_owned())
    }
}

/// A table in one line.
fn shown(table: &Table) -> String {
    let entries = table
        .entries()
        .map(|entry| format!("{}={}", entry.key, value(&entry.value.kind)));
    entries.collect::<Vec<_>>().join(" ")
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Text(text) => format!("{text:?}"),
        Kind::Integer(number, _) => number.to_string(),
        Kind::Float(number) => number.to_string(),
        Kind::Boolean(on) => on.to_string(),
        Kind::Time(time) => time.clone(),
        Kind::Array(values) => {
            let values: Vec<String> = values.iter().map(|v| value(&v.kind)).collect();
            format!("[{}]", values.join(" "))
        }
        Kind::Table(table) => format!("{{{}}}", shown(table)),
    }
}

fn parsed(text: &str, world: &World) -> Result<String, String> {
    let table = parse(text, "f", world).map_err(|error| error.to_string())?;
    Ok(shown(&table))
}

#[test]
fn every_construct_is_read_as_nats_reads_it() {
    for (text, expected) in [
        ("", ""),
        ("a=1", "a=1"),
        ("a: 1\nb 2\r\nc=3", "a=1 b=2 c=3"),
        ("a=1,b=2;c=3", "a=1 b=2 c=3"),
        ("# one\na = 1 # two\nb = 2 // three\n// four", "a=1 b=2"),
        ("a { b: 1 }", "a={b=1}"),
        ("a{b{c=yes}}", "a={b={c=true}}"),
        ("a: {b: 1\nc: 2}", "a={b=1 c=2}"),
        ("a\n{ b = 1 }", "a={b=1}"),
        ("a: [1, 2\n3; 'x']", "a=[1 2 3 \"x\"]"),
        ("a: [\n  {b: 1},\n  # no\n  {b: 2}\n]", "a=[{b=1} {b=2}]"),
        ("a: nats://u:p@h:4222", "a=\"nats://u:p@h:4222\""),
        ("a: 'it''s'", ""),
        ("a: 'back\\slash'", "a=\"back\\\\slash\""),
        (r#"a: "t\tn\nq\"b\\x\x41""#, r#"a="t\tn\nq\"b\\xA""#),
        ("a: 'two\nlines'", "a=\"two\\nlines\""),
        (
            "a: (\n  one\n  two)\n)\nb: 1",
            "a=\"\\n  one\\n  two)\\n\" b=1",
        ),
        (
            "\"a.>\": 1\n'b.*' = 2\nfoo.bar.> 3",
            "a.>=1 b.*=2 foo.bar.>=3",
        ),
        ("a: 1\nA: 2\na: 3", "a=3"),
        (
            "{\"a\": {\"b\": [1, 2.5, true]}, \"c\": \"d\"}\n",
            "a={b=[1 2.5 true]} c=\"d\"",
        ),
        ("a: $2a$11$hash", "a=\"$2a$11$hash\""),
        ("\u{feff}a: 1", "a=1"),
        ("a: 2016-05-04T18:53:41Z", "a=2016-05-04T18:53:41Z"),
        (
            "a: 1GB\nb: 30s\nc: 10.0.0.1:80",
            "a=1073741824 b=\"30s\" c=\"10.0.0.1:80\"",
        ),
        ("include: 5\ninclude {x=1}", "include={x=1}"),
        // One brace of a file too many, or one too few.
        ("a { b: 1 }\n}\n", "a={b=1}"),
        ("{\n  \"a\": 1\n", "a=1"),
        ("a { b: 1 }}\nc: 1 } d: 2", "a={b=1} c=1 d=2"),
        ("{ a: 1 }\nb: 2", "a=1 b=2"),
        // Words that begin like a comment.
        (
            "a: #b\nc: //d:1 # e\nf = # g\n{}",
            "a=\"#b\" c=\"//d:1\" f={}",
        ),
        (
            "a {\n b:\n  'long'\n c:\n  \"text\"\n}",
            "a={b=\"long\" c=\"text\"}",
        ),
        (r"a: p\\x\x41, b: C:\data", r#"a="p\\xA" b="C:\\data""#),
    ] {
        if expected.is_empty() && !text.is_empty() {
            assert!(parsed(text, &World::default()).is_err(), "{text}");
        } else {
            assert_eq!(
                parsed(text, &World::default()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, told) in [
        ("a {\n b: 1", "f:1:3: this brace is never closed"),
        ("a: 1\n}\nb: 1", "f:2:1: this brace closes nothing"),
        ("a: [1", "f:1:4: this bracket is never closed"),
        ("a: \"x\nb: 1", "f:1:4: this quote is never closed"),
        ("a: (x", "f:1:4: this parenthesis is never closed"),
        ("a: 1 b: 2", "f:1:6: nothing more may stand on this line"),
        ("a: one two", "f:1:8: nothing more may stand on this line"),
        ("é: 1 2", "f:1:6: nothing more"),
        ("a:\nb: 1", "f:1:1: \"a\" has no value"),
        ("a", "f:1:1: \"a\" has no value"),
        ("= 1", "f:1:1: a key should stand here"),
        ("a: , ", "f:1:4: a value should stand here"),
        ("a: \"\\q\"", "f:1:6: a backslash between double quotes"),
        ("a: \"\\x4\"", "f:1:6: \\x needs two hexadecimal digits"),
        ("a: 99999999999999999999", "f:1:4: the number is too large"),
        ("a: $none", "f:1:4: $none is neither a key of this file"),
        ("include", "f:1:8: include needs the path"),
        ("include none.conf", "f:1:9: no such file"),
        (
            "{a: 1\n} b: 1",
            "f:2:3: nothing may follow the closing brace",
        ),
        ("a: [{]", "f:1:6: a key should stand here"),
        ("a: [1}", "f:1:6: a bracket is open and a brace closes"),
    ] {
        let error = parsed(text, &World::default()).expect_err(text);
        assert!(error.starts_with(told), "{text:?}: {error}");
    }
}

#[test]
fn variables_are_keys_around_them_or_of_the_environment() {
    let world = World {
        variables: BTreeMap::from([
            ("LIMIT", "5MB"),
            ("WORDS", "'two words'"),
            ("BLOCK", "{ b: 1 }"),
            ("LOOP", "$LOOP"),
            ("BAD", "two geheim words"),
            ("EMPTY", ""),
            ("URLS", "nats://a:1,nats://b:1"),
        ]),
        ..World::default()
    };
    let read = |text: &str| parsed(text, &world);
    assert_eq!(
        read("x: 1\na { y: 2\n b { c: $x, d: $y } }").as_deref(),
        Ok("x=1 a={y=2 b={c=1 d=2}}")
    );
    assert_eq!(
        read("x: 1\na { x: 2, b: $x }").as_deref(),
        Ok("x=1 a={x=2 b=2}"),
        "the nearest"
    );
    assert_eq!(
        read("a: $LIMIT\nb: $WORDS\nc: $BLOCK").as_deref(),
        Ok("a=5242880 b=\"two words\" c={b=1}")
    );
    assert_eq!(
        read("LIMIT: 1\na: $LIMIT").as_deref(),
        Ok("LIMIT=1 a=1"),
        "the file goes first"
    );
    assert_eq!(read("a: '$LIMIT'").as_deref(), Ok("a=\"$LIMIT\""));
    assert_eq!(read("a: $EMPTY").as_deref(), Ok("a=\"\""));
    assert_eq!(read("a: $URLS").as_deref(), Ok("a=\"nats://a:1\""));
    for text in ["a: $LOOP", "a: $BAD", "a { b: 1 }\nc: $b", "a: $a"] {
        let error = read(text).expect_err(text);
        assert!(
            error.starts_with("f:") && !error.contains("geheim"),
            "{error}"
        );
    }
}

#[test]
fn included_files_stand_where_they_are_included() {
    let world = World {
        files: BTreeMap::from([
            ("a.conf", "x: 1\ny { z: 2 }\n".to_owned()),
            ("bad.conf", "x: 1\ny\n".to_owned()),
            ("self.conf", "include self.conf\n".to_owned()),
            (
                "twice.conf",
                "include twice.conf\ninclude twice.conf".to_owned(),
            ),
        ]),
        ..World::default()
    };
    let read = |text: &str| parsed(text, &world);
    assert_eq!(
        read("include 'a.conf'\nb: $x").as_deref(),
        Ok("x=1 y={z=2} b=1")
    );
    assert_eq!(
        read("s { Include a.conf }").as_deref(),
        Ok("s={x=1 y={z=2}}")
    );
    let error = read("include bad.conf").expect_err("a mistake");
    assert_eq!(error, "bad.conf:2:1: \"y\" has no value");
    for text in ["include self.conf", "include twice.conf"] {
        let error = read(text).expect_err("no end");
        assert!(
            error.contains("include each other") || error.contains("files are included"),
            "{error}"
        );
    }
}

#[test]
fn neither_depth_nor_variables_use_up_the_machine() {
    let deep = format!("a {}", "{a ".repeat(100_000));
    assert!(parsed(&deep, &World::default()).is_err());
    let deep = "[".repeat(100_000);
    assert!(parsed(&format!("a {deep}"), &World::default()).is_err());

    let mut text = String::from("v0: [1,1,1,1,1,1,1,1,1,1]\n");
    for level in 1..10 {
        let before = format!("$v{}", level - 1);
        let ten = vec![before; 10].join(",");
        text = format!("{text}v{level}: [{ten}]\n");
    }
    let error = parsed(&text, &World::default()).expect_err("ten billion values");
    assert!(
        error.contains("the variables stand for more than"),
        "{error}"
    );
}

/// What files are made of, so that random ones get far.
const PIECES: &[&str] = &[
    "a",
    "streaming",
    "limits",
    "channels",
    "max_msgs",
    "include ",
    "x.conf",
    "$a",
    "$V",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\n)\n",
    "=",
    ":",
    " ",
    "\n",
    "\r\n",
    ",",
    ";",
    "\"",
    "'",
    "\\",
    "\\x",
    "#",
    "//",
    "1",
    "10m",
    "-",
    "1.5",
    "true",
    "2016-05-04T18:53:41Z",
    "é",
    "\u{0}",
    "\u{feff}",
    "$2a$",
];

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        let world = World {
            files: BTreeMap::from([("x.conf", "a: 1\ninclude x.conf".to_owned())]),
            variables: BTreeMap::from([("V", "[1, $V]")]),
        };
        drop(parse(&pieces.concat(), "f", &world));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(parse(&String::from_utf8_lossy(&bytes), "f", &World::default()));
    }

    #[test]
    fn a_text_between_quotes_comes_back_as_it_is(text in "[^\"\\\\]{0,40}") {
        let read = parse(&format!("a: \"{text}\""), "f", &World::default());
        let table = read.expect("a valid file");
        prop_assert_eq!(&table.0[0].value.kind, &Kind::Text(text));
    }
}
