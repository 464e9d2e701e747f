//! What somebody tries against the console who means no good, or has a bad day: forms sent twice, log-ins that end half way, addresses
//! that make no sense, names that look like nothing, proxies in between.

use crate::admin::{publish, sequences};
use crate::console::{Browser, PASSWORD, form, with_users};
use crate::pair::{LIMIT, Pair};
use crate::support::wait::wait_until;

async fn operator(pair: &Pair) -> Browser {
    let mut browser = Browser::new(pair.standby.http_port);
    assert_eq!(browser.log_in("operator", PASSWORD).await, 303);
    browser
}

#[tokio::test]
async fn a_form_that_is_sent_twice_acts_once_and_a_page_that_is_loaded_again_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 1).await;
    let mut browser = operator(&pair).await;
    let path = "/console/act/message-republish";
    let csrf = browser.get("/console").await.csrf();
    let fields = [
        ("channel", "orders"),
        ("sequence", "1"),
        ("csrf", csrf.as_str()),
    ];
    let preview = form(&[&fields[..], &[("step", "preview")]].concat());
    let looked = browser.act(path, &preview).await;
    // Who goes back finds it there.
    assert_eq!(looked.header("cache-control"), Some("private, no-cache"));
    let once = looked.hidden("once");
    let done = form(&[&fields[..], &[("step", "do"), ("once", &once)]].concat());
    let (mut first, mut second) = (browser.clone(), browser.clone());
    let (first, second) = tokio::join!(
        first.ask("POST", path, "", &done),
        second.ask("POST", path, "", &done)
    );
    assert_eq!((first.status, second.status), (303, 303), "{}", first.body);
    let page = first.header("location").unwrap();
    assert_eq!(second.header("location"), Some(page));
    for _ in 0..2 {
        let shown = browser.get(page).await;
        assert!(
            shown.body.contains("Done: message republish"),
            "{}",
            shown.body
        );
    }
    assert_eq!(sequences(&pair.group, "orders").await, [1, 2]);
    let again = browser.ask("POST", path, "", &done).await;
    assert_eq!(again.header("location"), Some(page));
    assert_eq!(sequences(&pair.group, "orders").await, [1, 2]);

    // Who looks anew means it anew.
    let once = browser.act(path, &preview).await.hidden("once");
    let done = form(&[&fields[..], &[("step", "do"), ("once", &once)]].concat());
    browser.act(path, &done).await;
    assert_eq!(sequences(&pair.group, "orders").await, [1, 2, 3]);
}

#[tokio::test]
async fn who_is_logged_out_in_the_middle_of_a_verb_finds_the_form_filled_in_and_nothing_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 3).await;
    let mut browser = operator(&pair).await;
    let path = "/console/act/channel-purge";
    let csrf = browser.get("/console").await.csrf();
    let logout = [("csrf", csrf.as_str())];
    assert_eq!(
        browser
            .clone()
            .post("/console/logout", &logout)
            .await
            .status,
        303
    );
    let fields = [
        ("channel", "orders"),
        ("before", "3"),
        ("csrf", &csrf),
        ("step", "do"),
    ];
    let answer = browser.post(path, &fields).await;
    assert_eq!(answer.status, 303);
    let login = answer.header("location").unwrap().to_owned();
    assert!(login.starts_with("/console/login?next="), "{login}");
    let page = browser.get(&login).await;
    assert!(page.body.contains("nothing was done"), "{}", page.body);
    let next = page.hidden("next").replace("&amp;", "&");
    let fields = [
        ("name", "operator"),
        ("password", PASSWORD),
        ("next", next.as_str()),
    ];
    let answer = browser.post("/console/login", &fields).await;
    let filled = answer.header("location").unwrap().to_owned();
    let form = browser.get(&filled).await;
    assert!(
        form.body.contains("value=\"orders\"") && form.body.contains("value=\"3\""),
        "{}",
        form.body
    );
    assert_eq!(sequences(&pair.group, "orders").await, [1, 2, 3]);

    // A script that loads a part of a page takes the whole page along.
    browser.cookie.clear();
    let more = "HX-Request: true\r\nHX-Current-URL: http://x/console/channels?filter=a\r\n";
    let part = browser
        .ask("GET", "/console/channels?filter=ab", more, "")
        .await;
    assert_eq!(part.status, 401);
    let whole = part.header("hx-redirect").unwrap();
    assert_eq!(
        whole,
        "/console/login?next=%2Fconsole%2Fchannels%3Ffilter%3Da"
    );
}

#[tokio::test]
async fn addresses_and_forms_that_make_no_sense_are_answered_with_a_page_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    publish(&client, "orders", 1).await;
    let mut browser = operator(&pair).await;
    let last = u64::MAX;
    for (path, status) in [
        ("/console/message?channel=orders&sequence=x", 400),
        ("/console/message?channel=orders&sequence=-1", 400),
        ("/console/channels?from=-1", 400),
        ("/console/channels?filter=a%00b", 400),
        ("/console/channel?name=%00", 400),
        ("/console/messages?channel=orders&text=%00", 400),
        ("/console/sql/%ff", 400),
        ("/console/sql/nothing", 404),
        ("/console/act/nothing", 404),
        ("/console/channels?from=4294967295&sort=nothing", 200),
        (
            &format!("/console/message?channel=orders&sequence={last}"),
            404,
        ),
        (&format!("/console/messages?channel=orders&at={last}"), 200),
        ("/console/messages?channel=orders&at=abc", 200),
        ("/console/message?channel=orders&sequence=0", 404),
        ("/console/message?channel=&sequence=1", 404),
        ("/console/channel", 404),
        ("/console/durable?channel=orders", 404),
        ("/console/client", 404),
        ("/console/request?id=4711", 404),
        ("/console/request?id=-9223372036854775808", 404),
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, status, "{path}: {}", page.body);
        assert!(page.body.contains("</html>"), "{path}: {}", page.body);
        assert!(
            !page.body.contains("Check the database"),
            "{path}: {}",
            page.body
        );
    }
    let csrf = browser.get("/console").await.csrf();
    let purge = "/console/act/channel-purge";
    for (path, channel, status) in [
        ("/console/channels", "orders", 405),
        (purge, "or\0ders", 400),
    ] {
        let fields = [
            ("channel", channel),
            ("before", "1"),
            ("step", "do"),
            ("csrf", &csrf),
        ];
        let page = browser.post(path, &fields).await;
        assert_eq!(page.status, status, "{path}: {}", page.body);
        assert!(
            page.body.contains("othing was done"),
            "{path}: {}",
            page.body
        );
    }
    assert_eq!(sequences(&pair.group, "orders").await, [1]);
}

#[tokio::test]
async fn behind_a_proxy_links_and_cookies_are_those_that_the_browser_needs() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let mut browser = Browser::new(pair.active.http_port);
    let proxy = "X-Forwarded-Prefix: /ops/stanby/\r\nX-Forwarded-Proto: https\r\n";
    let fields = [
        ("name", "operator"),
        ("password", PASSWORD),
        ("next", "/console/audit"),
    ];
    let answer = browser
        .ask("POST", "/console/login", proxy, &form(&fields))
        .await;
    assert_eq!(answer.header("location"), Some("/ops/stanby/console/audit"));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("; Path=/ops/stanby/console;"), "{cookie}");
    assert!(cookie.contains("; Secure"), "{cookie}");
    for path in [
        "/console",
        "/console/channels",
        "/console/act/channel-create",
        "/console/nothing",
    ] {
        let page = browser.ask("GET", path, proxy, "").await.body;
        assert!(page.contains("\"/ops/stanby/console/channels\""), "{page}");
        assert!(!page.contains("\"/console"), "{path}: {page}");
    }
    let evil = "X-Forwarded-Prefix: //evil.example\r\n";
    let page = browser.ask("GET", "/console", evil, "").await.body;
    assert!(!page.contains("evil"), "{page}");
}

#[tokio::test]
async fn names_that_look_like_nothing_or_like_something_else_are_seen_and_lead_to_their_pages() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let client = pair.group.client("worker").await;
    let long = "x".repeat(200);
    let names = [
        " ",
        "a  b",
        "null",
        "undefined",
        "–",
        "\u{a0}",
        "\u{3164}",
        "\u{202e}evil",
        "שלום עולם",
        "a%2Fb",
        "a/b",
        "a&b=c#d?e",
        "\"'`<b>",
        "😀",
        "../../etc",
        "\u{7f}\u{1b}[31m",
        &long,
    ];
    publish(&client, "orders", 1).await;
    for name in names {
        client.hold("orders", "", name, 2).await.unwrap();
    }
    let mut browser = operator(&pair).await;
    let wanted = i64::try_from(names.len()).unwrap();
    wait_until(LIMIT, async || {
        let found = pair
            .group
            .tables()
            .number("SELECT count(*) FROM stanby.durables WHERE in_flight > 0")
            .await;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found} of {wanted}"))
        }
    })
    .await;
    let list = browser.get("/console/durables").await.body;
    let mut texts = std::collections::BTreeSet::new();
    for name in names {
        let given = [
            ("channel", "orders"),
            ("durable", name),
            ("client_id", "worker"),
        ];
        let path = format!("/console/durable?{}", form(&given));
        let link = format!("<a href=\"{}\">", path.replace('&', "&amp;"));
        let (_, rest) = list
            .split_once(&link)
            .unwrap_or_else(|| panic!("{name:?}: {list}"));
        let text = rest.split_once("</a>").unwrap().0.trim().to_owned();
        assert!(
            text.chars().any(|c| !c.is_whitespace()),
            "{name:?} is shown as {text:?}"
        );
        assert!(
            !text.chars().any(char::is_control),
            "{name:?} is shown as {text:?}"
        );
        assert!(
            texts.insert(text.clone()),
            "{name:?} looks like another: {text:?}"
        );
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "{name:?}: {}", page.body);
        assert!(
            page.body.contains("Messages in flight"),
            "{name:?}: {}",
            page.body
        );
    }
}
