//! The page for who does not ask for `OpenMetrics`: the text format of Prometheus, version 0.0.4, which knows neither
//! `info` nor units, and names a counter as its samples are named.

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Samples stay as they are: those of both formats look the same.
pub(super) fn from_open_metrics(page: &str) -> String {
    let types: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(word @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (suffix, kind) = match types.get(name) {
            Some(&"counter") => ("_total", "counter"),
            Some(&"info") => ("_info", "gauge"),
            Some(&"unknown") | None => ("", "untyped"),
            Some(kind) => ("", *kind),
        };
        let rest = if word == "TYPE" { kind } else { rest };
        writeln!(text, "# {word} {name}{suffix} {rest}").expect("a string takes what is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_named_as_their_samples_and_the_rest_stays() {
        let page = "# HELP a_node Node.\n# TYPE a_node info\na_node_info{v=\"1\"} 1\n\
            # HELP a_commits Commits.\n# TYPE a_commits counter\na_commits_total 5\n\
            # HELP a_s_seconds Time.\n# TYPE a_s_seconds histogram\n# UNIT a_s_seconds seconds\n\
            a_s_seconds_sum 1.0\na_s_seconds_count 1\na_s_seconds_bucket{le=\"+Inf\"} 1\n\
            # HELP a_up Up, # TYPE and all.\n# TYPE a_up gauge\na_up 1\n# EOF\n";
        let plain = "# HELP a_node_info Node.\n# TYPE a_node_info gauge\na_node_info{v=\"1\"} 1\n\
            # HELP a_commits_total Commits.\n# TYPE a_commits_total counter\na_commits_total 5\n\
            # HELP a_s_seconds Time.\n# TYPE a_s_seconds histogram\n\
            a_s_seconds_sum 1.0\na_s_seconds_count 1\na_s_seconds_bucket{le=\"+Inf\"} 1\n\
            # HELP a_up Up, # TYPE and all.\n# TYPE a_up gauge\na_up 1\n";
        assert_eq!(from_open_metrics(page), plain);
    }
}
