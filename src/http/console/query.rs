//! Addresses of pages, with what they are asked for: names that strangers chose stand in them. And what a page is asked for, as
//! its address has it.

use std::fmt::Write as _;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::de::DeserializeOwned;
use url::form_urlencoded::{Serializer, parse};

use super::layout;
use crate::http::view::Source;

/// The most bytes that a proxy may put before our paths.
const PREFIX_BYTES_MAX: usize = 200;

tokio::task_local! {
    /// What stands before `/console` where the browser sees it, while a request is answered.
    static PREFIX: String;
}

/// `/console/durable?channel=orders&durable=billing`; what is empty is left out.
pub(super) fn link(path: &str, given: &[(&str, &str)]) -> String {
    let mut link = PREFIX.try_with(Clone::clone).unwrap_or_default();
    write!(link, "/console{path}").expect("a String takes everything");
    let given = given.iter().filter(|(_, value)| !value.is_empty());
    let mut query = Serializer::new(String::new());
    for (name, value) in given {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if !query.is_empty() {
        write!(link, "?{query}").expect("a String takes everything");
    }
    link
}

/// The same behind a proxy that takes a part off the path and says which: `X-Forwarded-Prefix`. Whoever sends the header
/// themselves changes the links of nobody else's pages.
pub(super) async fn behind_proxy<T>(headers: &HeaderMap, answer: impl Future<Output = T>) -> T {
    let prefix = headers.get("x-forwarded-prefix");
    let prefix = prefix.and_then(|value| value.to_str().ok());
    let prefix = prefix.map_or("", |value| value.trim_end_matches('/'));
    let prefix = if is_prefix(prefix) { prefix } else { "" };
    PREFIX.scope(prefix.to_owned(), answer).await
}

/// A path on this host, and nothing that leads to another one.
fn is_prefix(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    text.starts_with('/')
        && text.len() <= PREFIX_BYTES_MAX
        && !text.contains("//")
        && text.bytes().all(is_plain)
}

/// What a page is asked for behind the `?`. An address that makes no sense is answered with a page that says so.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Source> for QueryParams<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &Source) -> Result<Self, Response> {
        read(&parts.uri)
            .map(Self)
            .map_err(|why| senseless(&why.to_string()))
    }
}

#[derive(Debug, thiserror::Error)]
enum InvalidQuery {
    #[error("{0} has a null character in it")]
    Null(String),
    #[error("{}", .0.body_text())]
    Rejected(#[from] QueryRejection),
}

fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, InvalidQuery> {
    let mut given = parse(uri.query().unwrap_or_default().as_bytes());
    // No name has one, and Postgres takes none.
    if let Some((name, _)) = given.find(|(_, value)| value.contains('\0')) {
        return Err(InvalidQuery::Null(name.into_owned()));
    }
    let Query(given) = Query::try_from_uri(uri)?;
    Ok(given)
}

/// The last part of a page's path.
pub(super) struct Named(pub(super) String);

impl FromRequestParts<Source> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, source: &Source) -> Result<Self, Response> {
        let name: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, source).await;
        match name {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => Err(senseless(&rejection.body_text())),
        }
    }
}

fn senseless(why: &str) -> Response {
    layout::plain(
        StatusCode::BAD_REQUEST,
        "The address makes no sense",
        &format!("{why}."),
        "Go to the page by its links, or correct the address.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::console::list::ListQuery;

    #[test]
    fn names_stand_in_addresses_as_what_they_are() {
        assert_eq!(link("", &[("a", "")]), "/console");
        assert_eq!(
            link("/channel", &[("name", "a&b=\"<c>#?é"), ("x", "")]),
            "/console/channel?name=a%26b%3D%22%3Cc%3E%23%3F%C3%A9"
        );
    }

    #[tokio::test]
    async fn behind_a_proxy_links_have_its_prefix_and_never_lead_to_another_host() {
        let link_behind = async |prefix: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-prefix", prefix.parse().unwrap());
            behind_proxy(&headers, async { link("/audit", &[]) }).await
        };
        assert_eq!(
            link_behind("/ops/stanby/").await,
            "/ops/stanby/console/audit"
        );
        for wrong in [
            "//evil.example",
            "https://evil.example",
            "ops",
            "/a\"b",
            "/a?b",
            "/",
            "",
        ] {
            assert_eq!(link_behind(wrong).await, "/console/audit", "{wrong}");
        }
    }

    #[test]
    fn an_address_that_makes_no_sense_is_told_so() {
        let uri: Uri = "/console/message?sequence=abc".parse().unwrap();
        let why = read::<ListQuery>(&"/?from=-1".parse().unwrap());
        assert!(why.unwrap_err().to_string().contains("from"));
        assert!(read::<ListQuery>(&uri).is_ok());
        let nul = read::<ListQuery>(&"/?filter=a%00b".parse().unwrap());
        assert_eq!(
            nul.unwrap_err().to_string(),
            "filter has a null character in it"
        );
    }
}
