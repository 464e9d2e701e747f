//! Log lines of what the core notices.

use crate::core::Notice;

pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::ClientTimedOut(client) => {
            tracing::info!(client.id = %client, "client timed out on heartbeats and was closed");
        }
        Notice::SubscriptionWithoutResponders { client, channel } => {
            tracing::info!(
                client.id = %client, channel = %channel,
                "a subscription was answered late and its client no longer listens; it was closed"
            );
        }
        Notice::ClientReplaced(client) => {
            tracing::info!(client.id = %client, "silent client was replaced by a new connection");
        }
        Notice::ConnectsRefused => tracing::warn!(
            "more clients connect than --connect-rate allows; those above it are refused"
        ),
        Notice::ClientsRefused => tracing::warn!(
            "more clients connect than --max-clients allows; those above it are refused"
        ),
        Notice::HeldBack => tracing::warn!(
            "too many messages are delivered and not acked: the subscriptions that hold most of them get nothing \
             new until some are acked; look for clients that do not ack"
        ),
        Notice::ChannelCreated(channel) => tracing::info!(%channel, "channel created"),
        Notice::ChannelInactive(channel) => {
            tracing::info!(%channel, "channel deleted after its maximum inactivity");
        }
        Notice::ChannelDeleted(channel) => {
            tracing::warn!(%channel, "an operator has deleted the channel");
        }
        Notice::ClientKicked(client) => {
            tracing::warn!(client.id = client, "an operator has closed the client");
        }
        Notice::RequestAnswered {
            id,
            verb,
            dry_run,
            refused: None,
        } => tracing::info!(
            request = id.0,
            verb,
            dry_run,
            "what an operator asked for is done"
        ),
        Notice::RequestAnswered {
            id,
            verb,
            dry_run,
            refused: Some(why),
        } => tracing::warn!(
            request = id.0,
            verb,
            dry_run,
            why,
            "what an operator asked for is refused"
        ),
        Notice::LimitReached(channel) => {
            tracing::warn!(%channel, "a limit drops the oldest messages of the channel");
        }
        Notice::MessageTooLarge {
            channel,
            sequence,
            bytes,
        } => tracing::error!(
            %channel,
            sequence = sequence.0,
            bytes,
            "a message is larger than NATS delivers (max_payload) and was passed over by a subscription"
        ),
        Notice::MessageUnreadable {
            channel,
            sequence,
            why,
        } => tracing::error!(
            %channel,
            sequence = sequence.0,
            why,
            "the row of a message cannot be read and was passed over by a subscription"
        ),
        Notice::MessagesGone { channel, messages } => tracing::warn!(
            %channel,
            messages,
            "messages were deleted by hand, or were declared gone; they no longer count"
        ),
        Notice::CountCorrected {
            channel,
            before,
            now,
        } => tracing::warn!(
            %channel,
            before,
            now,
            "the channel's count of messages was corrected: some were deleted by hand"
        ),
        Notice::MessagesUnseen {
            channel,
            first,
            last,
        } => tracing::error!(
            %channel,
            first = first.0,
            last = last.0,
            "messages are missing and nothing says that they are gone; a subscription waits for them"
        ),
        Notice::SqlRefused { id, channel, why } => tracing::warn!(
            row = id.0,
            channel,
            why,
            "what was published in SQL cannot be stored; it is in outbox_refused"
        ),
        Notice::DroppedUnacked { channel, sequence } => tracing::warn!(
            %channel,
            sequence = sequence.0,
            "a limit drops messages that a durable has not acked; see view dropped_unacked"
        ),
        Notice::Poison(letter, fate) => tracing::warn!(
            channel = %letter.origin,
            sequence = letter.sequence.0,
            durable = letter.durable.as_deref(),
            queue_group = letter.queue_group.as_deref(),
            deliveries = letter.deliveries,
            reason = &*letter.reason,
            "a message was delivered as often as its policy allows, and not acked: {fate}"
        ),
        // A condition reports it.
        Notice::DeadLetterRefused(..) => {}
        Notice::RowDropped { table, id, why } => {
            tracing::warn!(table, id, "row dropped: {why}");
        }
    }
}
