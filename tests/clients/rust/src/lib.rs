//! What the programs share: the words between them and the test that runs them. Each is started with URL CLUSTER,
//! prints a line for each step that went as documented, and ends at the first thing that is not as it should be.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(30);

/// So many messages are under way at once while the active dies.
pub const WINDOW: usize = 20;

/// The URL and the cluster ID.
pub fn arguments() -> (String, String) {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(url), Some(cluster_id)) => (url, cluster_id),
        _ => panic!("it is started with URL CLUSTER"),
    }
}

pub fn done(step: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{step}").expect("the test reads");
    output.flush().expect("the test reads");
}

/// Asks the test for something, and waits until it says that it is done.
pub fn ask(what: &str, answer: &str) {
    done(&format!("? {what}"));
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the test answers");
    assert_eq!(line.trim_end(), answer);
}

/// `orders 1`, `orders 2`, …
pub fn texts(channel: &str, numbers: impl IntoIterator<Item = u64>) -> BTreeSet<String> {
    numbers
        .into_iter()
        .map(|number| format!("{channel} {number}"))
        .collect()
}
