//! What the servers and their clients may do on NATS, and nothing more, as a NATS server understands it.

use super::subjects::{CLIENT_ACKS, Subjects};

/// Subjects that one kind of user may publish to and subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    /// Goes before `subscribe`.
    pub no_subscribe: Vec<String>,
    /// May answer what it is asked, wherever the answer goes.
    pub may_answer: bool,
}

/// The permissions of servers. `inboxes` are the wildcards of the clients' inboxes.
pub fn of_servers(subjects: &Subjects, inboxes: &[String]) -> Permissions {
    let asked = [
        subjects.discover(),
        subjects.pings(),
        subjects.publish_wildcard(),
        subjects.subscribe(),
        subjects.unsubscribe(),
        subjects.close_subscription(),
        subjects.close_client(),
        subjects.ack_wildcard(),
        subjects.servers(),
    ];
    let own = "_INBOX.>".to_owned();
    let partition_peers = subjects.partition_peers().to_string();
    let mut publish: Vec<String> = inboxes.to_vec();
    publish.push(CLIENT_ACKS.to_owned());
    publish.push(subjects.servers().to_string());
    publish.push(partition_peers.clone());
    if !publish.contains(&own) {
        publish.push(own.clone());
    }
    let asked = asked.iter().map(ToString::to_string);
    Permissions {
        publish,
        subscribe: asked.chain([partition_peers, own]).collect(),
        no_subscribe: Vec::new(),
        may_answer: false,
    }
}

/// The permissions of clients that may publish to these channels; wildcards are NATS' own.
pub fn of_clients(subjects: &Subjects, inboxes: &[String], channels: &[String]) -> Permissions {
    let channels = channels
        .iter()
        .map(|channel| format!("{}.{channel}", subjects.publish_prefix()));
    let requests = [
        subjects.discover(),
        subjects.pings(),
        subjects.subscribe(),
        subjects.unsubscribe(),
        subjects.close_subscription(),
        subjects.close_client(),
        subjects.ack_wildcard(),
    ];
    let requests = requests.iter().map(ToString::to_string);
    let mut subscribe: Vec<String> = inboxes.to_vec();
    subscribe.push(CLIENT_ACKS.to_owned());
    Permissions {
        publish: requests.chain(channels).collect(),
        subscribe,
        // Who receives others' acks learns inboxes that nobody is to know.
        no_subscribe: ack_inboxes(subjects, inboxes),
        may_answer: true,
    }
}

/// What nobody but the servers may listen to. A subscription whose wildcards reach only a part of the ack inboxes is not
/// stopped by their own wildcard: a NATS server looks whether the one contains the other. Where ack inboxes stand among
/// those of clients, everything that deep is kept from clients, whose own inboxes have fewer tokens.
fn ack_inboxes(subjects: &Subjects, inboxes: &[String]) -> Vec<String> {
    let mut denied = vec![subjects.ack_wildcard().to_string()];
    for inbox in inboxes {
        let prefix = inbox.strip_suffix('>').unwrap_or(inbox);
        if let Some(rest) = subjects.ack_prefix().strip_prefix(prefix) {
            let tokens = "*.".repeat(rest.split('.').count());
            denied.push(format!("{prefix}{tokens}*.>"));
        }
    }
    denied
}
