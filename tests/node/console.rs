//! The console without a browser: who may see and do what, and that pages show names and payloads as what they are. What it
//! is like in a browser is tried by tests/console.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use stanby::store::views::STATEMENTS;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::form_urlencoded::Serializer;

use crate::admin::{publish, sequences};
use crate::pair::{LIMIT, Pair};
use crate::support::wait::wait_until;

const TOKEN: &str = "a-token-that-nobody-guesses";
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    pub(crate) fn csrf(&self) -> String {
        self.hidden("csrf")
    }

    /// What a form brings along; the last one of this name.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let before = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.body.rsplit_once(&before).unwrap();
        rest[..rest.find('"').unwrap()].to_owned()
    }
}

/// Somebody with a browser that keeps its cookie.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) port: u16,
    pub(crate) cookie: String,
}

impl Browser {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            cookie: String::new(),
        }
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}");
        if !self.cookie.is_empty() {
            write!(head, "Cookie: other=1; {}\r\n", self.cookie).unwrap();
        }
        if method == "POST" {
            head += "Content-Type: application/x-www-form-urlencoded\r\n";
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("{head}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer = Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), None, "{head}");
        if let Some(cookie) = answer.header("set-cookie") {
            assert!(
                cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
                "{cookie}"
            );
            cookie
                .split(';')
                .next()
                .unwrap()
                .clone_into(&mut self.cookie);
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("POST", path, "", &form(fields)).await
    }

    /// Sends a form that acts, and goes where it leads.
    pub(crate) async fn act(&mut self, path: &str, fields: &str) -> Answer {
        let answer = self.ask("POST", path, "", fields).await;
        if answer.status == 303 {
            let page = answer.header("location").unwrap().to_owned();
            self.get(&page).await
        } else {
            answer
        }
    }

    /// Whether it worked.
    pub(crate) async fn log_in(&mut self, name: &str, password: &str) -> u16 {
        let fields = [
            ("name", name),
            ("password", password),
            ("next", "/console/channels"),
        ];
        let answer = self.post("/console/login", &fields).await;
        if answer.status == 303 {
            assert_eq!(answer.header("location"), Some("/console/channels"));
        }
        answer.status
    }
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A line as the command prints it.
fn user(name: &str, role: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
    command.args(["console-user", name, "--role", role]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut command = command.spawn().unwrap();
    let mut stdin = command.stdin.take().unwrap();
    writeln!(stdin, "{PASSWORD}").unwrap();
    drop(stdin);
    let output = command.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) async fn with_users(folder: &Path) -> Option<Pair> {
    let file = folder.join("users");
    let users = ["reader", "payload-reader", "operator"].map(|role| user(role, role));
    std::fs::write(&file, users.concat()).unwrap();
    Pair::new(&["--console-users", file.to_str().unwrap()]).await
}

#[tokio::test]
async fn the_console_is_off_until_it_is_told_who_may_log_in() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let mut browser = Browser::new(pair.active.http_port);
    for path in ["/console", "/console/login", "/console/channels"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("--console-users"), "{}", answer.body);
    }
    let answer = browser
        .post("/console/act/step-down", &[("step", "do")])
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn whoever_has_the_token_of_the_api_may_log_in_where_no_users_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let Some(pair) = Pair::new(&["--api-token-file", file.to_str().unwrap()]).await else {
        return;
    };
    let mut browser = Browser::new(pair.standby.http_port);
    let answer = browser.get("/console/channels?filter=a").await;
    assert_eq!(answer.status, 303);
    let login = "/console/login?next=%2Fconsole%2Fchannels%3Ffilter%3Da";
    assert_eq!(answer.header("location"), Some(login));
    assert_eq!(browser.log_in("", "wrong").await, 401);
    assert_eq!(browser.log_in("", TOKEN).await, 303);
    let now = browser.get("/console").await;
    assert_eq!(now.status, 200, "{}", now.body);
    assert!(
        now.body.contains("a standby is ready; nothing needs you."),
        "{}",
        now.body
    );

    // The other server of the pair believes the same cookie; another token ends it.
    browser.port = pair.active.http_port;
    assert_eq!(browser.get("/console").await.status, 200);
    std::fs::write(&file, "another-token-that-nobody-guesses").unwrap();
    assert_eq!(browser.get("/console").await.status, 303);
}

#[tokio::test]
async fn guessing_passwords_takes_patience_and_forged_cookies_are_worth_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let mut browser = Browser::new(pair.active.http_port);
    assert_eq!(browser.log_in("operator", PASSWORD).await, 303);
    let good = browser.cookie.clone();
    let (name, value) = good.split_once('=').unwrap();
    let parts: Vec<&str> = value.split('.').collect();
    let later = format!("{name}={}.9999999999.{}.{}", parts[0], parts[2], parts[3]);
    let other = format!("{name}={}.{}.726561646572.{}", parts[0], parts[1], parts[3]);
    for forged in [
        later,
        other,
        format!("{name}=x"),
        format!("{name}=..."),
        String::new(),
    ] {
        browser.cookie = forged;
        assert_eq!(
            browser.get("/console").await.status,
            303,
            "{}",
            browser.cookie
        );
    }
    browser.cookie = good.clone();
    let csrf = browser.get("/console").await.csrf();
    assert_eq!(
        browser
            .post("/console/logout", &[("csrf", "00")])
            .await
            .status,
        403
    );
    assert_eq!(
        browser
            .post("/console/logout", &[("csrf", &csrf)])
            .await
            .status,
        303
    );
    browser.cookie = good;
    assert_eq!(
        browser.get("/console").await.status,
        303,
        "it was logged out"
    );

    for attempt in 0..10 {
        let name = if attempt % 2 == 0 {
            "operator"
        } else {
            "nobody"
        };
        assert_eq!(browser.log_in(name, "guess").await, 401);
    }
    assert_eq!(browser.log_in("operator", PASSWORD).await, 429);
}

#[tokio::test]
async fn roles_see_and_do_what_they_may_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let group = &pair.group;
    let client = group.client("worker").await;
    publish(&client, "orders", 5).await;
    let _subscription = client.subscribe("orders", "", "d").await.unwrap();
    let port = pair.standby.http_port;
    let purge = [("channel", "orders"), ("before", "3"), ("step", "do")];
    for (role, sees) in [
        ("reader", false),
        ("payload-reader", true),
        ("operator", true),
    ] {
        let mut browser = Browser::new(port);
        assert_eq!(browser.log_in(role, PASSWORD).await, 303);
        let page = browser
            .get("/console/message?channel=orders&sequence=2")
            .await;
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(
            page.body.contains("id=\"payload\""),
            sees,
            "{role}: {}",
            page.body
        );
        let page = browser.get("/console/messages?channel=orders").await;
        assert_eq!(
            page.body.contains("hidden from your role"),
            !sees,
            "{}",
            page.body
        );
        let page = browser.get("/console/messages?channel=orders&text=m").await;
        assert_eq!(page.status, if sees { 200 } else { 403 });
        if role == "operator" {
            continue;
        }
        let csrf = browser.get("/console").await.csrf();
        let fields = [&purge[..], &[("csrf", &csrf)]].concat();
        let refused = browser.post("/console/act/channel-purge", &fields).await;
        assert_eq!(refused.status, 403, "{role}");
        assert!(
            refused.body.contains("but change nothing"),
            "{}",
            refused.body
        );
    }
    assert_eq!(sequences(group, "orders").await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_verb_is_previewed_confirmed_and_in_the_audit_and_a_form_of_another_site_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let group = &pair.group;
    let client = group.client("worker").await;
    publish(&client, "orders", 5).await;
    let mut browser = Browser::new(pair.standby.http_port);
    assert_eq!(browser.log_in("operator", PASSWORD).await, 303);
    let purge = "/console/act/channel-purge";
    let page = browser.get(&format!("{purge}?channel=orders")).await;
    assert!(page.body.contains("value=\"orders\""), "{}", page.body);
    let csrf = page.csrf();
    let fields = [("channel", "orders"), ("before", "3")];
    let with =
        |step: &str, csrf: &str| form(&[&fields[..], &[("step", step), ("csrf", csrf)]].concat());
    for (more, csrf) in [
        ("", "00"),
        ("Sec-Fetch-Site: cross-site\r\n", csrf.as_str()),
    ] {
        let answer = browser.ask("POST", purge, more, &with("do", csrf)).await;
        assert_eq!(answer.status, 403, "{more}");
    }
    let preview = browser
        .ask("POST", purge, "", &with("preview", &csrf))
        .await;
    assert!(
        preview.body.contains("what it would do"),
        "{}",
        preview.body
    );
    assert_eq!(sequences(group, "orders").await, [1, 2, 3, 4, 5]);
    let done = browser.act(purge, &with("do", &csrf)).await;
    assert!(done.body.contains("Done: channel purge"), "{}", done.body);
    assert_eq!(sequences(group, "orders").await, [3, 4, 5]);
    let asked = "SELECT application FROM stanby.admin_log WHERE NOT dry_run";
    assert_eq!(
        group.tables().texts(asked).await,
        ["console: operator from 127.0.0.1"]
    );
    let fields = [
        ("channel", "orders"),
        ("before", "99"),
        ("step", "preview"),
        ("csrf", &csrf),
    ];
    let refused = browser.post(purge, &fields).await;
    assert!(
        refused.body.contains("It holds 3 to 5."),
        "{}",
        refused.body
    );

    let kick = [
        ("client_id", "worker"),
        ("step", "do"),
        ("csrf", csrf.as_str()),
    ];
    browser.post("/console/act/client-kick", &kick).await;
    wait_until(LIMIT, async || match client.ping().await {
        Err(_) => Ok(()),
        Ok(()) => Err("it is still connected".to_owned()),
    })
    .await;
}

#[tokio::test]
async fn names_and_payloads_are_shown_as_what_they_are_and_never_as_markup() {
    const NASTY: &str = "<script>alert(1)</script>\"'&";
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    let channel = "<img src=x onerror=alert(1) \u{202e}\"'&";
    let literal = |text: &str| text.replace('\'', "''");
    let publish = format!(
        "SELECT stanby.publish('{}', '{}'::text); SELECT stanby.publish('orders', 'x'::text)",
        literal(channel),
        literal(NASTY)
    );
    pair.group.tables().execute(publish).await;
    let stored = "SELECT count(*) FROM stanby.messages";
    wait_until(LIMIT, async || {
        match pair.group.tables().number(stored).await {
            2 => Ok(()),
            other => Err(format!("{other} of 2")),
        }
    })
    .await;
    let durable = "<b>d\"'";
    let _subscription = client.subscribe("orders", "", durable).await.unwrap();
    let mut browser = Browser::new(pair.active.http_port);
    assert_eq!(browser.log_in("operator", PASSWORD).await, 303);
    let given =
        |more: &[(&str, &str)]| form(&[&[("channel", channel), ("name", channel)], more].concat());
    for path in [
        "/console".to_owned(),
        format!("/console/channels?{}", form(&[("filter", NASTY)])),
        "/console/channels".to_owned(),
        format!("/console/channel?{}", given(&[])),
        format!("/console/messages?{}", given(&[("text", "<script>")])),
        format!("/console/message?{}", given(&[("sequence", "1")])),
        format!(
            "/console/message?{}",
            given(&[("sequence", "1"), ("as", "hex")])
        ),
        "/console/durables".to_owned(),
        format!(
            "/console/durable?{}",
            form(&[("channel", "orders"), ("durable", durable)])
        ),
        format!(
            "/console/durable?{}",
            form(&[("channel", NASTY), ("durable", NASTY)])
        ),
        format!("/console/client?{}", form(&[("id", NASTY)])),
        "/console/client?id=worker".to_owned(),
        format!("/console/sql/durable?{}", given(&[("durable", NASTY)])),
        format!("/console/act/channel-purge?{}", given(&[])),
    ] {
        let page = browser.get(&path).await.body;
        assert!(page.contains("</html>"), "{path}");
        for markup in ["<script>alert", "<img", "<b>d"] {
            assert!(!page.contains(markup), "{path}: {page}");
        }
        // What a form sends back has to be what it was.
        let shown: String =
            page.split(" value=\"")
                .enumerate()
                .fold(String::new(), |shown, (index, part)| {
                    let rest = if index == 0 {
                        part
                    } else {
                        part.split_once('"').unwrap().1
                    };
                    shown + rest
                });
        assert!(!shown.contains('\u{202e}'), "{path}: {shown}");
    }
}

#[tokio::test]
async fn every_query_that_a_page_shows_is_one_that_postgres_answers() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 2).await;
    for statement in STATEMENTS {
        let text = statement.text(|name| match name {
            "channel" => "orders".to_owned(),
            "sequence" => "2".to_owned(),
            _ => "it's \\ <nobody>".to_owned(),
        });
        let query = format!("SET search_path = stanby; {text}");
        pair.group.tables().execute(query).await;
    }
}
