//! Addresses of pages, with what they are asked for: names that strangers chose stand in them.

use std::fmt::Write as _;

use url::form_urlencoded::Serializer;

/// `/console/durable?channel=orders&durable=billing`; what is empty is left out.
pub(super) fn link(path: &str, given: &[(&str, &str)]) -> String {
    let mut link = format!("/console{path}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_addresses_as_what_they_are() {
        assert_eq!(link("", &[("a", "")]), "/console");
        assert_eq!(
            link("/channel", &[("name", "a&b=\"<c>#?é"), ("x", "")]),
            "/console/channel?name=a%26b%3D%22%3Cc%3E%23%3F%C3%A9"
        );
    }
}
