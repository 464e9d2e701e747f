//! The doors of the verbs: how each is asked, and what it says.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::admin::Operator;
use crate::admin_api::{TOKEN, post};
use crate::console::{Answer, Browser, form};
use crate::pair::{Group, Pair};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Door {
    Sql,
    Command,
    Http,
    /// As a browser sends its forms.
    Console,
}

pub(super) const DOORS: [Door; 4] = [Door::Sql, Door::Command, Door::Http, Door::Console];

/// As the server, the procedures and the paths call it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    procedure: &'static str,
}

pub(super) const VERBS: &[Verb] = &[
    verb("channel create", "create_channel"),
    verb("channel limits", "limit_channel"),
    verb("channel purge", "purge"),
    verb("channel delete", "delete_channel"),
    verb("message republish", "republish"),
    verb("message delete", "delete_message"),
    verb("dlq redrive", "redrive"),
    verb("durable seek", "seek"),
    verb("durable pause", "pause"),
    verb("durable resume", "resume"),
    verb("durable ack", "ack_message"),
    verb("durable skip", "skip"),
    verb("durable remove", "remove_durable"),
    verb("client kick", "kick"),
    verb("step-down", "step_down"),
];

const fn verb(name: &'static str, procedure: &'static str) -> Verb {
    Verb { name, procedure }
}

/// What the command line takes without a flag, in this order.
const IN_ORDER: [&str; 3] = ["channel", "durable", "client_id"];

pub(super) struct House<'a> {
    pub(super) group: &'a Group,
    pub(super) operator: Operator<'a>,
    port: u16,
    browser: Browser,
    /// The served document: verb to path.
    pub(super) document: Value,
}

impl House<'_> {
    pub(super) async fn ask(&mut self, verb: Verb, door: Door, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else {
            panic!("{arguments} are no arguments");
        };
        match door {
            Door::Sql => self.operator.call(&call(verb, &arguments)).await,
            Door::Command => self.command(verb, &arguments).await,
            Door::Http => self.post(verb, arguments).await,
            Door::Console => self.console(verb, &arguments).await,
        }
    }

    async fn command(&mut self, verb: Verb, arguments: &Map<String, Value>) -> Value {
        let words = words(verb, arguments);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.operator.command(&words).await
    }

    /// The refusal and its hint, in one line.
    pub(super) async fn refused(
        &mut self,
        verb: Verb,
        door: Door,
        arguments: &Map<String, Value>,
    ) -> String {
        match door {
            Door::Sql => {
                let [error, _, hint] = self.operator.refused(&call(verb, arguments)).await;
                format!("{error}. {hint}")
            }
            Door::Command => {
                let words = words(verb, arguments);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let words = [&words[..], &["--yes"]].concat();
                let (code, told) = self.operator.command_fails(&words).await;
                assert_eq!(code, Some(2), "{words:?}: {told}");
                told
            }
            Door::Http => {
                let mut arguments = arguments.clone();
                let path = self.path(verb, &mut arguments);
                let body = Value::Object(arguments).to_string();
                let (status, told) = post(self.port, &path, Some(TOKEN), &body).await;
                assert_eq!(status, 422, "{path} {body}: {told}");
                let [error, hint] = ["detail", "hint"].map(|part| told[part].as_str().unwrap());
                format!("{error}. {hint}")
            }
            Door::Console => {
                let (_, _, page) = self.preview(verb, arguments).await;
                let page = page.body.replace("<strong>", "").replace("</strong>", "");
                let page = page.replace("&quot;", "\"").replace("&lt;", "<");
                page.replace("&gt;", ">").replace("&amp;", "&")
            }
        }
    }

    /// Where the form of the verb is, what it is filled in with, and the page that says what it would do.
    async fn preview(
        &mut self,
        verb: Verb,
        arguments: &Map<String, Value>,
    ) -> (String, String, Answer) {
        let path = format!("/console/act/{}", verb.name.replace(' ', "-"));
        let given: Vec<(&str, String)> = arguments
            .iter()
            .map(|(name, value)| (name.as_str(), text(value)))
            .collect();
        let given: Vec<(&str, &str)> = given
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let page = self.browser.get(&format!("{path}?{}", form(&given))).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let given = form(&[&given[..], &[("csrf", &page.csrf())]].concat());
        let preview = format!("{given}&step=preview");
        let preview = self.browser.act(&path, &preview).await;
        (path, given, preview)
    }

    /// Fills in the form, looks at what it would do, confirms that, and reads what was done.
    async fn console(&mut self, verb: Verb, arguments: &Map<String, Value>) -> Value {
        let (path, given, preview) = self.preview(verb, arguments).await;
        assert!(
            preview.body.contains("what it would do"),
            "{}",
            preview.body
        );
        let once = form(&[("step", "do"), ("once", &preview.hidden("once"))]);
        let done = self.browser.act(&path, &format!("{given}&{once}")).await;
        let title = format!("Done: {}", verb.name);
        assert!(done.body.contains(&title), "{}", done.body);
        let result = "SELECT result::text FROM stanby.admin_log WHERE NOT dry_run AND application LIKE 'console: %' LIMIT 1";
        let result = self.group.tables().texts(result).await.remove(0);
        serde_json::from_str(&result).unwrap()
    }

    /// Of the document, with the arguments in it that have their place there.
    fn path(&self, verb: Verb, arguments: &mut Map<String, Value>) -> String {
        let id = verb.name.replace([' ', '-'], "_");
        let paths = self.document["paths"].as_object().unwrap();
        let path = paths
            .iter()
            .find(|(_, methods)| methods["post"]["operationId"] == *id);
        let (path, _) = path.unwrap_or_else(|| panic!("no path does {}", verb.name));
        let mut path = path.clone();
        for name in IN_ORDER {
            let place = format!("{{{name}}}");
            if path.contains(&place) {
                let value = arguments.remove(name).unwrap();
                path = path.replace(&place, value.as_str().unwrap());
            }
        }
        path
    }

    async fn post(&mut self, verb: Verb, mut arguments: Map<String, Value>) -> Value {
        let path = self.path(verb, &mut arguments);
        let body = Value::Object(arguments).to_string();
        let (status, answer) = post(self.port, &path, Some(TOKEN), &body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer["result"].clone()
    }
}

fn call(verb: Verb, arguments: &Map<String, Value>) -> String {
    let given: Vec<String> = arguments.iter().map(in_sql).collect();
    format!("{}({})", verb.procedure, given.join(", "))
}

fn words(verb: Verb, arguments: &Map<String, Value>) -> Vec<String> {
    let mut words: Vec<String> = verb.name.split(' ').map(str::to_owned).collect();
    let in_order = IN_ORDER.iter().filter_map(|name| arguments.get(*name));
    words.extend(in_order.map(text));
    for (name, value) in arguments {
        if IN_ORDER.contains(&&**name) {
            continue;
        }
        words.push(format!("--{}", name.replace('_', "-")));
        if *value != Value::Bool(true) {
            words.push(text(value));
        }
    }
    words
}

fn text(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| value.to_string())
}

fn in_sql((name, value): (&String, &Value)) -> String {
    let text = value.as_str().map(|text| format!("'{text}'"));
    let value = text.unwrap_or_else(|| value.to_string());
    format!("\"{name}\" => {value}")
}

/// A pair with a token for its API; the verbs are asked for at the standby.
pub(super) async fn pair() -> Option<(Pair, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let pair = Pair::new(&["--api-token-file", file.to_str().unwrap()]).await?;
    Some((pair, folder))
}

pub(super) async fn house(pair: &Pair) -> House<'_> {
    let (_, document) = pair.standby.get("/api/openapi.json").await.unwrap();
    let mut browser = Browser::new(pair.standby.http_port);
    assert_eq!(browser.log_in("", TOKEN).await, 303);
    House {
        group: &pair.group,
        operator: Operator::of(&pair.group).await,
        port: pair.standby.http_port,
        browser,
        document: serde_json::from_str(&document).unwrap(),
    }
}
