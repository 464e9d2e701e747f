//! What a script asks to see of the tables and counters.

use stanby::core::batch::{ChannelRow, PositionRow, Progress, SubscriptionRow};
use stanby::core::ids::{ChannelId, ClientId, PositionId, SubscriptionId};
use stanby::core::report::{Page, Question};
use stanby::core::time::Timestamp;

use super::{START, World};

impl World {
    pub(super) fn channel(&self, name: &str) -> Result<ChannelId, String> {
        let channels = self.store.snapshot().channels;
        let found = channels
            .into_iter()
            .find(|(_, row)| row.name.as_str() == name);
        found
            .map(|(id, _)| id)
            .ok_or(format!("{name} is not in the table"))
    }

    /// When the channel's messages were published, from the begin of the script.
    pub(super) fn times(&self, name: &str) -> Result<String, String> {
        let id = self.channel(name)?;
        let of_channel = self
            .store
            .messages()
            .filter(|(channel, _, _)| *channel == id);
        let start = Timestamp(i64::try_from(START.as_nanos()).map_err(|_| "that is too late")?);
        let times: Vec<String> = of_channel
            .map(|(_, _, message)| {
                let at = message.published_at.since(start).as_secs();
                format!("#{} at {at}s", message.sequence)
            })
            .collect();
        Ok(times.join(", "))
    }

    /// What the tables hold, without the messages.
    pub(super) fn rows(&self) -> Vec<String> {
        let rows = self.store.snapshot();
        let client = |id: &ClientId| format!("client {id}");
        let channel = |row: &ChannelRow| {
            let fate = if row.deleting {
                " is being deleted"
            } else {
                ""
            };
            format!("channel {}{fate}", row.name)
        };
        let position = |(id, row): (&PositionId, &PositionRow)| {
            let Progress {
                last_sent,
                acked_floor,
                ..
            } = &row.progress;
            format!("position {id}: sent {last_sent}, acked {acked_floor}")
        };
        let subscription = |(id, row): (&SubscriptionId, &SubscriptionRow)| {
            let state = if row.online { "online" } else { "offline" };
            let (position, client) = (row.position, &row.client_id);
            format!("subscription {id} of position {position}: {client}, {state}")
        };
        let clients = rows.clients.keys().map(client);
        let channels = rows.channels.values().map(channel);
        let positions = rows.positions.iter().map(position);
        let subscriptions = rows.subscriptions.iter().map(subscription);
        let all = clients.chain(channels).chain(positions);
        all.chain(subscriptions).collect()
    }

    /// How many messages each subscription of the channel holds, as the pages show it.
    pub(super) fn held(&mut self, channel: &str) -> Vec<String> {
        let question = Question::Channel {
            name: channel.to_owned(),
            subscriptions: true,
        };
        let now = self.now().monotonic;
        let Page::Channels(found) = self.broker().broker().report(&question, now) else {
            return Vec::new();
        };
        let subscriptions = found.items.into_iter().flat_map(|it| it.subscriptions);
        let shown = subscriptions.map(|it| {
            let (inbox, held, max) = (it.inbox, it.in_flight, it.max_in_flight);
            let stalled = if it.stalled { ", stalled" } else { "" };
            format!("{inbox} holds {held} of {max}{stalled}")
        });
        shown.collect()
    }

    pub(super) fn counts(&mut self) -> String {
        let counts = self.broker().broker().counts();
        format!(
            "in {} out {} ({} bytes); {} clients, {} channels, {} subscriptions, {} messages",
            counts.traffic.in_messages,
            counts.traffic.out_messages,
            counts.traffic.out_bytes,
            counts.clients,
            counts.channels,
            counts.subscriptions,
            counts.messages
        )
    }

    pub(super) fn stored(&self, name: &str) -> Result<String, String> {
        let id = self.channel(name)?;
        let of_channel = self
            .store
            .messages()
            .filter(|(channel, _, _)| *channel == id);
        let messages: Vec<String> = of_channel
            .map(|(_, epoch, message)| format!("#{} (epoch {epoch})", message.sequence))
            .collect();
        let row = &self.store.snapshot().channels[&id];
        let (first, last) = (row.first_sequence, row.last_sequence);
        Ok(format!(
            "{name} first {first} last {last}: [{}]",
            messages.join(", ")
        ))
    }
}
