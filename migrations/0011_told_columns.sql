-- Why: \d+ told what each view is for, and of no column what it says. A lag, a floor and a count of unacked messages are
-- easily taken for one another.

COMMENT ON TABLE schema_versions IS 'Migrations of these tables that were carried out, and when. Written by servers and stanby migrate.';

COMMENT ON COLUMN active.epoch IS 'Number of the term; grows by one with each takeover.';
COMMENT ON COLUMN active.holder IS 'Server ID, as in its log.';
COMMENT ON COLUMN active.host IS 'Machine of the active, by its own name.';
COMMENT ON COLUMN active.pid IS 'Process on that machine.';
COMMENT ON COLUMN active.since IS 'When the term began.';
COMMENT ON COLUMN active.released_at IS 'When it gave the lock up by itself; NULL otherwise.';
COMMENT ON COLUMN active.holds_lock IS 'Whether it has the lock at this moment; false means that nobody is active.';
COMMENT ON COLUMN active.timeline IS 'Timeline of Postgres when the term began; grows with each failover of Postgres.';

COMMENT ON COLUMN standbys.application_name IS 'stanby/<cluster ID>/<group>/<server ID>.';
COMMENT ON COLUMN standbys.client_addr IS 'Where it comes from; NULL over a Unix socket.';
COMMENT ON COLUMN standbys.connected_since IS 'When the session that waits was opened.';

COMMENT ON COLUMN position_status.position_id IS 'Number of the position; several subscriptions share one in a queue group.';
COMMENT ON COLUMN position_status.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN position_status.channel IS 'Name of the channel.';
COMMENT ON COLUMN position_status.durable_name IS 'NULL for what ends with its client.';
COMMENT ON COLUMN position_status.queue_group IS 'NULL for what is no queue group.';
COMMENT ON COLUMN position_status.clients IS 'Client IDs of the members, also of those that are offline.';
COMMENT ON COLUMN position_status.members IS 'Members that are attached; messages go to these.';
COMMENT ON COLUMN position_status.max_in_flight IS 'How many messages all attached members may have unacked together.';
COMMENT ON COLUMN position_status.last_sent IS 'Highest sequence that was sent.';
COMMENT ON COLUMN position_status.acked_floor IS 'Everything up to this sequence is acked or gone.';
COMMENT ON COLUMN position_status.unacked IS 'Messages that were sent and not acked.';
COMMENT ON COLUMN position_status.lag IS 'Sequences that are still to be sent.';
COMMENT ON COLUMN position_status.status IS
    'offline: no client is attached; stalled: as many unacked as allowed; behind: messages are still to be sent; online: all are sent.';
COMMENT ON COLUMN position_status.why IS 'The status in words.';

COMMENT ON COLUMN durables.channel IS 'Name of the channel.';
COMMENT ON COLUMN durables.durable_name IS 'As its clients call it.';
COMMENT ON COLUMN durables.queue_group IS 'NULL for a durable of one client.';
COMMENT ON COLUMN durables.clients IS 'Client IDs of the members, also of those that are offline.';
COMMENT ON COLUMN durables.members IS 'Members that are attached; messages go to these.';
COMMENT ON COLUMN durables.status IS
    'offline: no client is attached; stalled: as many unacked as allowed; behind: messages are still to be sent; online: all are sent.';
COMMENT ON COLUMN durables.last_sent IS 'Highest sequence that was sent.';
COMMENT ON COLUMN durables.acked_floor IS 'Everything up to this sequence is acked or gone.';
COMMENT ON COLUMN durables.unacked IS 'Messages that were sent and not acked.';
COMMENT ON COLUMN durables.lag IS 'Sequences that are still to be sent.';
COMMENT ON COLUMN durables.why IS 'The status in words.';

COMMENT ON COLUMN subscription_status.subscription_id IS 'Number of the subscription; never used again.';
COMMENT ON COLUMN subscription_status.channel IS 'Name of the channel.';
COMMENT ON COLUMN subscription_status.client_id IS 'Whose it is.';
COMMENT ON COLUMN subscription_status.durable_name IS 'NULL for what ends with its client.';
COMMENT ON COLUMN subscription_status.queue_group IS 'NULL for what is no member of a queue group.';
COMMENT ON COLUMN subscription_status.status IS
    'offline: its client is gone; stalled: as many unacked as allowed; behind: messages are still to be sent; online: all are sent.';
COMMENT ON COLUMN subscription_status.last_sent IS 'Highest sequence that was sent, to any member of the group.';
COMMENT ON COLUMN subscription_status.acked_floor IS 'Everything up to this sequence is acked or gone.';
COMMENT ON COLUMN subscription_status.unacked IS 'Messages that were sent and not acked, of the whole group.';
COMMENT ON COLUMN subscription_status.lag IS 'Sequences that are still to be sent.';
COMMENT ON COLUMN subscription_status.max_in_flight IS 'How many messages this member may have unacked.';
COMMENT ON COLUMN subscription_status.ack_wait IS 'A message that is not acked for so long is sent again.';
COMMENT ON COLUMN subscription_status.since IS 'When it was made or resumed.';
COMMENT ON COLUMN subscription_status.inbox IS 'Subject to which messages are sent.';
COMMENT ON COLUMN subscription_status.ack_inbox IS 'Subject on which acks are heard. Who knows it can ack.';
COMMENT ON COLUMN subscription_status.why IS 'The status in words, of the whole group.';

COMMENT ON COLUMN channel_status.channel_id IS 'Number of the channel; never used again.';
COMMENT ON COLUMN channel_status.name IS 'As clients call it.';
COMMENT ON COLUMN channel_status.status IS 'open; deleting: gone for clients, and its messages are being dropped.';
COMMENT ON COLUMN channel_status.first_sequence IS 'Of the oldest message kept; last_sequence + 1 when there is none.';
COMMENT ON COLUMN channel_status.last_sequence IS 'Of the newest message, kept or not.';
COMMENT ON COLUMN channel_status.message_count IS 'Messages kept.';
COMMENT ON COLUMN channel_status.byte_count IS 'Their size as NATS Streaming counts it for max_bytes.';
COMMENT ON COLUMN channel_status.subscriptions IS 'Subscriptions, offline durables included.';
COMMENT ON COLUMN channel_status.furthest_behind IS 'Sequences that are still to be sent to the slowest of them.';
COMMENT ON COLUMN channel_status.created_at IS 'When it was first used.';
COMMENT ON COLUMN channel_status.last_published_at IS 'When the newest message was stored; NULL when there was none.';

COMMENT ON COLUMN client_status.client_id IS 'As the application calls itself.';
COMMENT ON COLUMN client_status.connected_at IS 'When it connected.';
COMMENT ON COLUMN client_status.last_heartbeat_at IS 'When it last answered; written with commits, and so behind by a while.';
COMMENT ON COLUMN client_status.missed_heartbeats IS 'Heartbeats in a row that it did not answer.';
COMMENT ON COLUMN client_status.status IS 'responsive; unresponsive: it missed the last heartbeat, and gets nothing until it answers.';
COMMENT ON COLUMN client_status.subscriptions IS 'Subscriptions that are attached.';
COMMENT ON COLUMN client_status.protocol IS '1 for clients that have a connection ID and send pings; 0 for older ones.';
COMMENT ON COLUMN client_status.heartbeat_inbox IS 'Subject on which it is asked whether it lives.';

COMMENT ON COLUMN readable_messages.channel IS 'Name of the channel.';
COMMENT ON COLUMN readable_messages.sequence IS 'Number within the channel; with holes where messages were dropped.';
COMMENT ON COLUMN readable_messages.published_at IS 'When the active took it, by the clock of its machine.';
COMMENT ON COLUMN readable_messages.client_id IS 'Who published it.';
COMMENT ON COLUMN readable_messages.text IS 'Its data; NULL when that is not valid UTF-8, "encrypted" when it is.';
COMMENT ON COLUMN readable_messages.size_bytes IS 'Size of the data.';
COMMENT ON COLUMN readable_messages.reply IS 'Subject for answers, if the publisher named one.';
COMMENT ON COLUMN readable_messages.guid IS 'As its publisher named it; a message is stored once.';
COMMENT ON COLUMN readable_messages.epoch IS 'Term in which it was stored.';
COMMENT ON COLUMN readable_messages.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN readable_messages.encrypted IS 'Whether its data is encrypted in the table.';

COMMENT ON COLUMN schema_compatibility.oldest_server IS 'Lowest version of the schema that a server has to know.';

COMMENT ON COLUMN database_failovers.epoch IS 'The term that found it.';
COMMENT ON COLUMN database_failovers.at IS 'When that term began.';
COMMENT ON COLUMN database_failovers.timeline_before IS 'Timeline of the former primary; NULL where the platform does not tell.';
COMMENT ON COLUMN database_failovers.timeline_after IS 'Timeline of the new one.';
COMMENT ON COLUMN database_failovers.restored IS 'Messages that were stored again under the same sequences.';
COMMENT ON COLUMN database_failovers.lost IS 'Messages that were acked and are gone.';
COMMENT ON COLUMN database_failovers.unknown IS 'Sequences that may have been given to messages that were acked.';
COMMENT ON COLUMN database_failovers.ranges IS 'Channel, sequences and fate of each of them.';
