//! The paths, and what each takes: the router and the document are both made of this.

use self::Kind::{Flag, Number, Text, Time};

pub(in crate::http) struct Route {
    pub(in crate::http) path: &'static str,
    /// As the command line has it.
    pub(in crate::http) verb: &'static str,
    pub(in crate::http) summary: &'static str,
    /// In the body; what the path names is not among them.
    pub(in crate::http) takes: &'static [Parameter],
}

pub(in crate::http) struct Parameter {
    pub(in crate::http) name: &'static str,
    pub(in crate::http) kind: Kind,
    pub(in crate::http) description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    Number,
    Text,
    Flag,
    /// Text, too.
    Time,
}

const fn takes(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        description,
    }
}

const DURABLE: Parameter = takes("durable", Text, "Name of the durable.");
const CLIENT_ID: Parameter = takes(
    "client_id",
    Text,
    "Of the durable's owner, where several clients have one of this name.",
);
const QUEUE_GROUP: Parameter = takes("queue_group", Text, "Name of the queue group.");
const SEQUENCE: Parameter = takes("sequence", Number, "Of the message.");
const FIRST: Parameter = takes("first", Number, "The first of several messages, with last.");
const LAST: Parameter = takes("last", Number, "The last of several messages, with first.");

const SUBSCRIPTIONS: Parameter = takes("max_subscriptions", Number, "0 is unlimited.");
const MSGS: Parameter = takes("max_msgs", Number, "0 is unlimited.");
const BYTES: Parameter = takes("max_bytes", Number, "0 is unlimited.");
const AGE: Parameter = takes(
    "max_age",
    Time,
    "A length of time: 24h, 7 days. 0 is unlimited.",
);
const INACTIVITY: Parameter = takes("max_inactivity", Time, "A length of time. 0 is unlimited.");

pub(in crate::http) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/channels/{channel}/create",
        verb: "channel create",
        summary: "Creates a channel, with limits of its own if any are given",
        takes: &[SUBSCRIPTIONS, MSGS, BYTES, AGE, INACTIVITY],
    },
    Route {
        path: "/api/v1/channels/{channel}/limits",
        verb: "channel limits",
        summary: "Sets limits of a channel, and returns its limits and where each comes from",
        takes: &[
            SUBSCRIPTIONS,
            MSGS,
            BYTES,
            AGE,
            INACTIVITY,
            takes("reset", Flag, "As configured, but for what is given."),
        ],
    },
    Route {
        path: "/api/v1/channels/{channel}/purge",
        verb: "channel purge",
        summary: "Drops the oldest messages of a channel; give exactly one of these fields",
        takes: &[
            takes("before", Number, "Those before this sequence."),
            takes(
                "before_time",
                Time,
                "Those published before this time, or longer ago: 2h.",
            ),
            takes("keep", Number, "Keeps this many of the newest messages."),
            takes("all", Flag, "Drops every message."),
        ],
    },
    Route {
        path: "/api/v1/channels/{channel}/delete",
        verb: "channel delete",
        summary: "Deletes a channel with its messages",
        takes: &[takes(
            "force",
            Flag,
            "Although it has subscriptions: they end.",
        )],
    },
    Route {
        path: "/api/v1/channels/{channel}/messages/republish",
        verb: "message republish",
        summary: "Publishes messages again: as the newest of their channel, or to another one",
        takes: &[
            SEQUENCE,
            FIRST,
            LAST,
            takes("to_channel", Text, "Publish them there."),
        ],
    },
    Route {
        path: "/api/v1/channels/{channel}/messages/delete",
        verb: "message delete",
        summary: "Deletes messages",
        takes: &[SEQUENCE, FIRST, LAST],
    },
    Route {
        path: "/api/v1/channels/{channel}/dead-letters/redrive",
        verb: "dlq redrive",
        summary: "Publishes dead letters again to their origin: the given ones, or all that were not yet",
        takes: &[
            SEQUENCE,
            FIRST,
            LAST,
            takes(
                "to_channel",
                Text,
                "Publish them there, in place of the channels that they come from.",
            ),
        ],
    },
    Route {
        path: "/api/v1/channels/{channel}/durables/seek",
        verb: "durable seek",
        summary: "Moves a durable or queue group to another position; members continue there at once",
        takes: &[
            DURABLE,
            CLIENT_ID,
            QUEUE_GROUP,
            takes("to", Text, "first, last, new, or a sequence."),
            takes("sequence", Number, "This message is delivered next."),
            takes(
                "time",
                Time,
                "The first message of this time is delivered next, or of so long ago: 2h.",
            ),
        ],
    },
    Route {
        path: "/api/v1/channels/{channel}/durables/pause",
        verb: "durable pause",
        summary: "Pauses a durable: nothing is delivered to it until it is resumed",
        takes: &[DURABLE, CLIENT_ID, QUEUE_GROUP],
    },
    Route {
        path: "/api/v1/channels/{channel}/durables/resume",
        verb: "durable resume",
        summary: "Resumes a paused durable",
        takes: &[DURABLE, CLIENT_ID, QUEUE_GROUP],
    },
    Route {
        path: "/api/v1/channels/{channel}/durables/ack",
        verb: "durable ack",
        summary: "Acks a message that was delivered, on behalf of its client",
        takes: &[DURABLE, CLIENT_ID, QUEUE_GROUP, SEQUENCE],
    },
    Route {
        path: "/api/v1/channels/{channel}/durables/skip",
        verb: "durable skip",
        summary: "Acks messages for a durable, delivered or not",
        takes: &[DURABLE, CLIENT_ID, QUEUE_GROUP, SEQUENCE, FIRST, LAST],
    },
    Route {
        path: "/api/v1/channels/{channel}/durables/remove",
        verb: "durable remove",
        summary: "Removes a durable and its position",
        takes: &[
            DURABLE,
            CLIENT_ID,
            QUEUE_GROUP,
            takes("force", Flag, "Although members of it are connected."),
        ],
    },
    Route {
        path: "/api/v1/clients/{client_id}/kick",
        verb: "client kick",
        summary: "Closes a client as missed heartbeats would",
        takes: &[],
    },
    Route {
        path: "/api/v1/step-down",
        verb: "step-down",
        summary: "Has the active hand over to a standby",
        takes: &[takes("force", Flag, "Although no standby waits.")],
    },
];
