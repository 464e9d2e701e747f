-- Why: the comments of tables, views and functions are what \d+ and the reference show. Some used words that mean something to
-- those who wrote the code alone, and every seventh column had no comment.
--
-- A server of a version before this works on.

-- These locks hold up no reader and no writer, and wait for VACUUM and for changes of a table. Longer than deadlock_timeout, after
-- which Postgres ends an autovacuum in the way.
SET LOCAL lock_timeout = '10s';

-- Views.
COMMENT ON VIEW acked_ranges IS 'What is acked above the acked floor of each position, as ranges, from positions and position_acks.';
COMMENT ON VIEW active IS 'The active, and since when. holds_lock is false while no server is active, as during a takeover.';
COMMENT ON COLUMN active.holder IS 'Server ID of the active, as its log shows it.';
COMMENT ON COLUMN active.pid IS 'Process ID on that machine.';
COMMENT ON COLUMN active.released_at IS 'When it released the lock itself; NULL otherwise.';
COMMENT ON COLUMN active.holds_lock IS 'Whether it holds the lock at this moment; false: no server is active.';
COMMENT ON VIEW admin_log IS 'Requests of operators: who, what, when, and the outcome; the newest first.';
COMMENT ON COLUMN admin_log.arguments IS 'By name. Times are nanoseconds since 1970; durations are nanoseconds.';
COMMENT ON COLUMN admin_log.dry_run IS 'The request only reports what it would do.';
COMMENT ON COLUMN admin_log.role IS 'The role that was logged in.';
COMMENT ON COLUMN admin_log.client_address IS 'Address of that session; NULL: a Unix socket.';
COMMENT ON COLUMN admin_log.result IS 'What was done; of a dry run, what would be.';
COMMENT ON COLUMN admin_log.hint IS 'How to mend that.';
COMMENT ON VIEW channel_policies IS 'What each channel does when it is full, and which policy decides it.';
COMMENT ON COLUMN channel_policies.source IS 'Which policy applies; default: none.';
COMMENT ON VIEW channel_limits IS 'The limits of each channel, and where each comes from; NULL is unlimited.';
COMMENT ON COLUMN channel_status.channel_id IS 'Number of the channel; never reused.';
COMMENT ON COLUMN channel_status.status IS 'open; deleting: clients no longer see it, and its messages are being deleted.';
COMMENT ON COLUMN channel_status.furthest_behind IS 'The largest lag of its subscriptions, in messages that are not acked.';
COMMENT ON COLUMN channel_status.last_published_at IS 'When the newest message was stored; NULL when there never was one.';
COMMENT ON VIEW channel_usage IS 'The size of each channel, its rates, and how near it is to its limits.';
COMMENT ON COLUMN channel_usage.max_msgs IS 'Limit of messages; NULL: unlimited. View channel_limits shows where limits come from.';
COMMENT ON COLUMN channel_usage.time_to_full IS 'Until the limit of messages or bytes is reached, at the rate of the last hour; 0 at the limit; NULL without a limit, or when nothing was published.';
COMMENT ON COLUMN client_status.client_id IS 'Client ID that the application chose.';
COMMENT ON COLUMN client_status.last_heartbeat_at IS 'When it last answered a heartbeat; written with other commits, so it can be late.';
COMMENT ON COLUMN client_status.missed_heartbeats IS 'Heartbeats in a row without an answer.';
COMMENT ON COLUMN client_status.status IS 'responsive; unresponsive: it missed the last heartbeat, and nothing is delivered to it until it answers.';
COMMENT ON COLUMN client_status.heartbeat_inbox IS 'Always NULL: whoever knows it can send requests in the server''s name.';
COMMENT ON VIEW cluster IS 'The cluster ID of these tables, and how many clients and subscriptions it has.';
COMMENT ON COLUMN cluster.cluster_id IS 'The cluster ID that clients connect to; NULL before the first server was active.';
COMMENT ON COLUMN cluster.serves IS 'Channels that the last active served, as patterns; NULL: all.';
COMMENT ON VIEW database_failovers IS 'Failovers of Postgres that a takeover noticed: messages restored, lost and possibly lost, with their ranges.';
COMMENT ON COLUMN database_failovers.epoch IS 'The term that noticed it.';
COMMENT ON COLUMN database_failovers.timeline_before IS 'Timeline of the former primary; NULL where the platform does not report it.';
COMMENT ON COLUMN database_failovers.lost IS 'Messages that were acked and are lost.';
COMMENT ON COLUMN database_failovers.unknown IS 'Sequences that acked messages may have had.';
COMMENT ON VIEW dead_letter_status IS 'Dead letters that are kept, their origin and the reason; without payloads.';
COMMENT ON COLUMN dead_letter_status.origin_channel IS 'Channel where it was published.';
COMMENT ON COLUMN dead_letter_status.origin_sequence IS 'Its sequence in that channel.';
COMMENT ON COLUMN dead_letter_status.reason IS 'Reason that the last nack gave.';
COMMENT ON COLUMN dead_letter_status.publisher IS 'Client ID of its publisher.';
COMMENT ON COLUMN dead_letter_status.dead_since IS 'When it became a dead letter.';
COMMENT ON VIEW dropped_unacked IS 'Per channel, messages that a limit dropped before every durable had acked them, since the tables were created.';
COMMENT ON COLUMN durables.durable_name IS 'Durable name that its clients use.';
COMMENT ON COLUMN durables.behind IS 'Age of that message, which a takeover does not reset; 0 when everything is acked.';
COMMENT ON VIEW effective_policies IS 'The policy of each subscription, and where it comes from.';
COMMENT ON COLUMN effective_policies.source IS 'Which policy applies; default: none.';
COMMENT ON COLUMN effective_policies.poison IS 'What happens to a message after max_deliveries: pass-over, pause or dead-letter.';
COMMENT ON COLUMN effective_policies.dead_letter IS 'The dead-letter channel.';
COMMENT ON COLUMN effective_policies.waits_for IS 'The oldest message that it waits for: a policy paused it for that message, or the message is about to become a dead letter and waits for acks in SQL or for room in the dead-letter channel.';
COMMENT ON VIEW gone_messages IS 'Messages that are gone although no limit dropped them, and why.';
COMMENT ON COLUMN gone_messages.reason IS 'See gone_ranges.reason.';
COMMENT ON COLUMN gone_messages.noted_by IS 'The role that was logged in.';
COMMENT ON VIEW held_messages IS 'Which member of a queue group has each message in flight. Messages of members that have left are not included.';
COMMENT ON COLUMN held_messages.subscription_id IS 'Number of the subscription that it was last sent to.';
COMMENT ON VIEW in_flight IS 'Messages that were sent and not acked, and who has them. Filter by channel or durable where there are many.';
COMMENT ON COLUMN in_flight.age IS 'Time since then.';
COMMENT ON COLUMN in_flight.client_id IS 'The client that it was last sent to; NULL where that member of a queue group has left.';
COMMENT ON COLUMN in_flight.publisher IS 'Client ID of its publisher.';
COMMENT ON COLUMN in_flight.deliveries IS 'How often it was delivered. NULL: once, or deliveries are not counted; a policy with max_deliveries has them counted.';
COMMENT ON COLUMN in_flight.since IS 'When the last delivery was counted.';
COMMENT ON VIEW lock_holders IS 'The session that holds the lock of the active. Any role that may connect can take it; no server is active while another session holds it.';
COMMENT ON COLUMN lock_holders.pid IS 'Backend process; SELECT pg_terminate_backend(pid) ends the session.';
COMMENT ON COLUMN lock_holders.role IS 'The role that is logged in.';
COMMENT ON COLUMN lock_holders.application_name IS 'application_name of the session.';
COMMENT ON COLUMN lock_holders.is_server IS 'Whether its application_name is that of a stanby server, and its role may serve.';
COMMENT ON VIEW message_json IS 'Messages with their data as JSON. json is NULL where the data is not JSON, so no row makes a query fail.';
COMMENT ON COLUMN message_json.json IS 'Its data as JSON; NULL where it is not JSON, or is encrypted.';
COMMENT ON COLUMN outbox_status.status IS 'scheduled: its time has not come. waiting: the active has not taken it yet.';
COMMENT ON COLUMN outbox_status.waits IS 'Since it could have been taken; negative while it is scheduled.';
COMMENT ON VIEW paused_durables IS 'Durables to which nothing is delivered until an operator resumes them (durable resume).';
COMMENT ON VIEW pending_ack_status IS 'What was acked in SQL and is not carried out yet.';
COMMENT ON COLUMN pending_ack_status.kind IS 'ack, or nack: to be delivered again.';
COMMENT ON COLUMN pending_ack_status.reason IS 'Of a nack: the reason that the consumer gave.';
COMMENT ON COLUMN pending_ack_status.client_id IS 'Client ID that the consumer gave; often NULL.';
COMMENT ON COLUMN pending_ack_status.consumer IS 'The role that was logged in.';
COMMENT ON COLUMN pending_ack_status.waits IS 'Since it was called. An ack of a message that was not sent again since a takeover waits until it is.';
COMMENT ON VIEW position_status IS 'How far each subscription or queue group has got, and what keeps it from going on.';
COMMENT ON COLUMN position_status.behind IS 'Age of that message, which a takeover does not reset; 0 when everything is acked.';
COMMENT ON VIEW publishers IS 'Who publishes how much: of the newest 10,000 sequences of each channel.';
COMMENT ON COLUMN publishers.messages IS 'How many of these messages it published.';
COMMENT ON VIEW readable_messages IS 'Messages with their data as text; NULL where that is not valid UTF-8 (see messages.data), "encrypted" where it is encrypted.';
COMMENT ON COLUMN readable_messages.sequence IS 'Number within the channel; numbers of dropped messages are missing.';
COMMENT ON COLUMN readable_messages.published_at IS 'When the active received it, by the clock of its machine.';
COMMENT ON COLUMN readable_messages.text IS 'Its data; NULL where that is not valid UTF-8, "encrypted" where it is encrypted.';
COMMENT ON COLUMN readable_messages.reply IS 'Subject for answers, if the publisher gave one.';
COMMENT ON COLUMN readable_messages.guid IS 'Always NULL: whoever knows it can pass for its publisher. See messages.guid.';
COMMENT ON COLUMN refused_publishes.refused_at IS 'When it was refused.';
COMMENT ON VIEW schema_compatibility IS 'Which servers can work on these tables.';
COMMENT ON COLUMN schema_compatibility.oldest_server IS 'Servers that know this version of the schema or a later one can.';
COMMENT ON VIEW server_settings IS 'The settings of the servers that started last, and which of them is the active or a standby.';
COMMENT ON COLUMN server_settings.pages IS 'URL of its HTTP pages; NULL: it has none.';
COMMENT ON COLUMN server_settings.is_active IS 'It is the active at this moment.';
COMMENT ON COLUMN standbys.client_addr IS 'Address of its session; NULL: a Unix socket.';
COMMENT ON VIEW subscription_status IS 'Subscriptions. For members of a queue group, progress and unacked are those of the whole group.';
COMMENT ON COLUMN subscription_status.subscription_id IS 'Number of the subscription; never reused.';
COMMENT ON COLUMN subscription_status.client_id IS 'Client ID of its client; of an offline durable, of the last one.';
COMMENT ON COLUMN subscription_status.max_in_flight IS 'How many unacked messages this member may have.';
COMMENT ON COLUMN subscription_status.ack_wait IS 'After this time without an ack, a message is sent again.';
COMMENT ON COLUMN subscription_status.since IS 'When it was created or last resumed.';
COMMENT ON COLUMN subscription_status.inbox IS 'Always NULL: whoever knows it can send messages in the server''s name.';
COMMENT ON COLUMN subscription_status.ack_inbox IS 'Always NULL: whoever knows it can ack.';

-- Tables.
COMMENT ON TABLE admin_requests IS 'Requests of operators and their outcome; the last 10,000 answered ones are kept. See view admin_log.';
COMMENT ON COLUMN admin_requests.arguments IS 'By name. Times are nanoseconds since 1970; durations are nanoseconds.';
COMMENT ON COLUMN admin_requests.dry_run IS 'The request only reports what it would do.';
COMMENT ON COLUMN admin_requests.role IS 'The role that was logged in.';
COMMENT ON COLUMN admin_requests.client_address IS 'Address of that session; NULL: a Unix socket.';
COMMENT ON COLUMN admin_requests.created_at IS 'When the request was made; the commit came later.';
COMMENT ON COLUMN admin_requests.state IS 'waiting: no server has taken it yet. running: a server carries it out. done, refused: answered. withdrawn: not taken in time.';
COMMENT ON COLUMN admin_requests.through IS 'Of a request that takes many transactions: the last sequence that it covers.';
COMMENT ON COLUMN admin_requests.messages IS 'Of such a request: how many messages are done.';
COMMENT ON COLUMN admin_requests.bytes IS 'Of such a request: their size.';
COMMENT ON COLUMN admin_requests.result IS 'What was done; of a dry run, what would be.';
COMMENT ON COLUMN admin_requests.hint IS 'How to mend that.';
COMMENT ON TABLE channel_grants IS 'Channels that roles may use with publish(), ack() and nack(). A role with rows here, or a member of one, may use only these; other roles may use all. Owners of the tables and superusers are not restricted.';
COMMENT ON COLUMN channel_grants.may_ack IS 'It may ack and nack messages there.';
COMMENT ON COLUMN channel_grants.granted_by IS 'The role that was logged in.';
COMMENT ON COLUMN channel_grants.granted_at IS 'When it was granted.';
COMMENT ON TABLE channels IS 'Named logs of messages. Each commit that publishes to a channel updates its row.';
COMMENT ON COLUMN channels.channel_id IS 'Number of the channel; never reused.';
COMMENT ON COLUMN channels.name IS 'Name of the channel.';
COMMENT ON COLUMN channels.created_at_ns IS 'When it was first used, in nanoseconds since 1970.';
COMMENT ON COLUMN channels.deleting IS 'Clients no longer see it, and its messages are being deleted in steps.';
COMMENT ON COLUMN channels.last_sequence IS 'Sequence of the newest message, kept or not.';
COMMENT ON COLUMN channels.last_published_at_ns IS 'When the newest message was stored, in nanoseconds since 1970; 0 when there never was one.';
COMMENT ON COLUMN channels.message_count IS 'Messages kept.';
COMMENT ON TABLE clients IS 'Connected clients.';
COMMENT ON COLUMN clients.client_id IS 'Client ID that the application chose.';
COMMENT ON COLUMN clients.connection_id IS 'Unique per connection; empty for clients of protocol 0. Whoever knows it can publish as this client.';
COMMENT ON COLUMN clients.heartbeat_inbox IS 'Subject on which the client answers heartbeats.';
COMMENT ON COLUMN clients.protocol IS '1 for clients with a connection ID and pings; 0 for older ones.';
COMMENT ON COLUMN clients.ping_interval IS 'Seconds between two pings of the client.';
COMMENT ON COLUMN clients.ping_max_out IS 'After so many pings without an answer the client gives up its connection.';
COMMENT ON COLUMN clients.connected_at_ns IS 'When it connected, in nanoseconds since 1970.';
COMMENT ON COLUMN clients.last_heartbeat_at_ns IS 'When it last answered a heartbeat; written with other commits, so it can be late.';
COMMENT ON COLUMN clients.missed_heartbeats IS 'Heartbeats in a row without an answer.';
COMMENT ON TABLE closed_connections IS 'Connections that were closed or replaced recently, so that no takeover carries out their connect requests again. Deleted after ten minutes, when the next client leaves.';
COMMENT ON COLUMN closed_connections.heartbeat_inbox IS 'Heartbeat inbox of the connection.';
COMMENT ON COLUMN closed_connections.closed_at IS 'When it was closed or replaced.';
COMMENT ON COLUMN closed_connections.entry IS 'Number of the row.';
COMMENT ON TABLE conditions IS 'Conditions of the active at this moment; empty when nothing is wrong. A new active starts with its own.';
COMMENT ON COLUMN conditions.kind IS 'Kind of the condition, as in the metric stanby_condition.';
COMMENT ON COLUMN conditions.reason IS 'What is wrong, and how to mend it.';
COMMENT ON COLUMN conditions.server_id IS 'Server ID of the active.';
COMMENT ON COLUMN conditions.since IS 'When it began.';
COMMENT ON TABLE configured_limits IS 'Limits of channels in the configuration of the last active; NULL is unlimited. The last row that matches a channel applies; set_limits takes precedence over it.';
COMMENT ON TABLE dead_letters IS 'Origin of the messages of dead-letter channels. Rows remain when the messages are deleted; the owner of the tables may delete them.';
COMMENT ON COLUMN dead_letters.origin_channel IS 'Channel where it was published.';
COMMENT ON COLUMN dead_letters.origin_sequence IS 'Its sequence in that channel.';
COMMENT ON COLUMN dead_letters.reason IS 'Reason that the last nack gave.';
COMMENT ON COLUMN dead_letters.dead_since IS 'When it became a dead letter.';
COMMENT ON TABLE delivery_counts IS 'How often messages in flight were delivered, where a policy has deliveries counted and it was more than once.';
COMMENT ON COLUMN delivery_counts.deliveries IS 'Number of deliveries; one just before a server died may be missing.';
COMMENT ON COLUMN delivery_counts.reason IS 'Reason that the last nack() gave.';
COMMENT ON COLUMN delivery_counts.last_at IS 'When the last delivery was counted.';
COMMENT ON COLUMN delivery_counts.given_up IS 'It is about to become a dead letter, and ack() and nack() return false. It becomes one when all transactions that may have acked it before have ended.';
COMMENT ON COLUMN delivery_counts.awaited_since IS 'Since when its subscription is paused until it is settled; NULL: it is not. Valid only where it is not earlier than last_at: otherwise a server older than version 87 has written the row since.';
COMMENT ON TABLE dropped_guids IS 'Publishes that a limit dropped within seconds, so that no takeover stores them again. Deleted when the channel drops older ones, at the latest by the first takeover after an hour.';
COMMENT ON COLUMN dropped_guids.through IS 'Sequence of the last of them.';
COMMENT ON COLUMN dropped_guids.guids IS 'GUIDs of these publishes.';
COMMENT ON COLUMN dropped_guids.dropped_at IS 'When they were dropped.';
COMMENT ON COLUMN dropped_guids.client_ids IS 'Client ID of the publisher, per GUID. NULL where an older server dropped the messages.';
COMMENT ON COLUMN dropped_guids.contents IS 'First 16 bytes of SHA-256 of reply, a zero byte and data, per GUID. NULL where the message was encrypted, or an older server dropped it.';
COMMENT ON TABLE dropped_messages IS 'Per channel, messages that a limit dropped before every durable had acked them. Delete a row to start counting again.';
COMMENT ON TABLE encryption_keys IS 'Operators'' keys in use, without the keys themselves. A server checks with known_value that it has the right key.';
COMMENT ON COLUMN encryption_keys.key_number IS 'Number of the key.';
COMMENT ON COLUMN encryption_keys.salt IS 'Salt of PBKDF2.';
COMMENT ON COLUMN encryption_keys.known_value IS 'A fixed text, encrypted with the key.';
COMMENT ON COLUMN encryption_keys.first_used_at IS 'When a server first used the key.';
COMMENT ON COLUMN fed_channels.stream IS 'Name of the stream.';
COMMENT ON COLUMN fed_channels.stream_created IS 'When the stream was created; a stream that was deleted and created again is another one.';
COMMENT ON COLUMN fed_channels.through IS 'Sequence of the last message of the stream that was published, or left out as a copy from this channel.';
COMMENT ON TABLE gone_ranges IS 'Messages that are gone although no limit dropped them. Subscriptions pass over them, and counts exclude them.';
COMMENT ON COLUMN gone_ranges.first_sequence IS 'First sequence of the range.';
COMMENT ON COLUMN gone_ranges.last_sequence IS 'Last sequence of the range.';
COMMENT ON COLUMN gone_ranges.settled_bytes IS 'How much of byte_count the active has subtracted from channels.byte_count.';
COMMENT ON COLUMN gone_ranges.reason IS '`deleted`, `truncated`: by hand. `told`: by messages_are_gone(). `imported`: the former store had a gap. `failover`: see lost_ranges. `counted`: the channel never counted them. `upgrade`: missing when this table was created.';
COMMENT ON COLUMN gone_ranges.noted_by IS 'The role that was logged in.';
COMMENT ON COLUMN gone_ranges.noted_at IS 'When it was recorded; of a range that grew, when it last grew.';
COMMENT ON TABLE imports IS 'Imports from stores of nats-streaming-server; a row is written in the transaction of its data.';
COMMENT ON COLUMN imports.import_id IS 'Numbers grow with time.';
COMMENT ON COLUMN imports.source IS 'The former store: a directory, the directories of Raft nodes, or a database, without passwords.';
COMMENT ON COLUMN imports.fingerprints IS 'Per directory: SHA-256 of the names and sizes of its files and of the server''s own record. If it differs, a former server has written to the directory since.';
COMMENT ON TABLE leadership IS 'One row: the server that became active last. View "active" shows whether it still is.';
COMMENT ON COLUMN leadership.one_row IS 'Always true: there is one row.';
COMMENT ON COLUMN leadership.pid IS 'Process ID on that machine.';
COMMENT ON COLUMN leadership.since IS 'When the term began.';
COMMENT ON COLUMN leadership.lease_ms IS 'Postgres ends the session of the active when it has been silent for this long.';
COMMENT ON COLUMN leadership.backend_pid IS 'Backend process of its leader session.';
COMMENT ON COLUMN leadership.timeline IS 'Timeline of that Postgres; a lower one later means a former primary.';
COMMENT ON COLUMN leadership.released_at IS 'When the active released the lock itself; NULL otherwise.';
COMMENT ON COLUMN leadership.serves IS 'Channels that the last active served, as patterns; NULL: all channels of the cluster ID.';
COMMENT ON COLUMN leadership.ack_secret IS 'Random bytes, drawn when the tables were created, that keep ack inboxes unguessable without access to these tables.';
COMMENT ON COLUMN leadership.end_epoch IS 'The last term whose active recorded why it ended.';
COMMENT ON COLUMN leadership.end_cause IS 'Why that term ended, as in takeovers.cause.';
COMMENT ON COLUMN leadership.end_detail IS 'The same in a sentence.';
COMMENT ON TABLE lost_ranges IS 'Messages that a failover of Postgres lost, and what happened to them. Rows may be deleted by hand.';
COMMENT ON COLUMN lost_ranges.epoch IS 'The term that noticed it.';
COMMENT ON COLUMN lost_ranges.first_sequence IS 'First sequence of the range.';
COMMENT ON COLUMN lost_ranges.last_sequence IS 'Last sequence of the range.';
COMMENT ON COLUMN lost_ranges.channel IS 'Name of the channel.';
COMMENT ON COLUMN lost_ranges.fate IS '`restored`: stored again under the same sequences. `stored anew`: the messages are stored under later sequences. `lost`: acked, and lost. `unknown`: acked messages may have had these sequences. Only restored sequences are used again.';
COMMENT ON COLUMN lost_ranges.found_at IS 'When it was noticed.';
COMMENT ON TABLE message_id_windows IS 'For how long duplicates of a msg_id are looked for, of channels where that is not 24 hours. Written by operators.';
COMMENT ON COLUMN message_id_windows.channel_name IS 'Name of the channel.';
COMMENT ON COLUMN message_id_windows.duplicates_for IS 'Counted from the call of publish(); 0: duplicates are not looked for.';
COMMENT ON TABLE message_ids IS 'Each msg_id that was published to a channel, for as long as its duplicates are looked for.';
COMMENT ON COLUMN message_ids.channel_name IS 'Name of the channel.';
COMMENT ON COLUMN message_ids.message_id IS 'The msg_id.';
COMMENT ON COLUMN message_ids.guid IS 'GUID of the first message with it, which publish() returns for duplicates.';
COMMENT ON COLUMN message_ids.expires_at IS 'From then on the same msg_id is a new message.';
COMMENT ON TABLE moved_positions IS 'Durables that an operator moved within the last hour or so: acks that a standby received before that do not count.';
COMMENT ON COLUMN moved_positions.position_id IS 'Number of the position.';
COMMENT ON COLUMN moved_positions.moved_at IS 'When it was moved.';
COMMENT ON TABLE outbox IS 'What publish() has written and no server has taken yet. A row is deleted in the transaction that stores its message.';
COMMENT ON COLUMN outbox.guid IS 'GUID of the message, which publish() returned.';
COMMENT ON COLUMN outbox.reply IS 'Reply subject of the message; often empty.';
COMMENT ON COLUMN outbox_refused.id IS 'Number of the row, for retry_refused().';
COMMENT ON COLUMN outbox_refused.reason IS 'Why it could not be stored.';
COMMENT ON COLUMN outbox_refused.refused_at IS 'When it was refused.';
COMMENT ON TABLE outbox_used IS 'Has a row once something was published or acked in SQL. Until then no server looks into the outbox.';
COMMENT ON COLUMN outbox_used.entry IS 'Number of the row; there may be several, of transactions that began at the same time.';
COMMENT ON TABLE paused_positions IS 'Durables to which nothing is delivered until an operator resumes them.';
COMMENT ON COLUMN paused_positions.position_id IS 'Number of the position.';
COMMENT ON TABLE pending_acks IS 'What ack() and nack() have written and no server has carried out yet. An ack is deleted in the transaction that writes the position with it.';
COMMENT ON COLUMN pending_acks.id IS 'Rows are carried out in this order. Numbers may be missing.';
COMMENT ON COLUMN pending_acks.position_id IS 'Number of the position that the message was delivered for.';
COMMENT ON COLUMN pending_acks.redeliver_after IS 'NULL: an ack. Otherwise a nack: deliver it again after this time.';
COMMENT ON COLUMN pending_acks.reason IS 'Of a nack: the reason that the consumer gave.';
COMMENT ON COLUMN pending_acks.client_id IS 'Client ID that the consumer gave; often NULL.';
COMMENT ON COLUMN pending_acks.consumer IS 'The role that was logged in.';
COMMENT ON TABLE policies IS 'What set_policy() has set. Each subscription has one policy: one that names it, otherwise the one with the narrowest pattern.';
COMMENT ON COLUMN policies.backoff IS 'Used in place of the ack wait: how long the first delivery waits for its ack, the second, …; the last entry applies to all later ones.';
COMMENT ON COLUMN policies.poison IS 'What happens to a message after max_deliveries: pass-over, pause (nothing more is delivered to the subscription until the message is acked), or dead-letter.';
COMMENT ON COLUMN policies.dead_letter IS 'The dead-letter channel.';
COMMENT ON COLUMN policies.dead_letter_header IS 'The reply of a dead letter has its origin, deliveries and reason.';
COMMENT ON COLUMN policies.keep_until_acked IS 'Of the channel: limits drop only what every durable has acked; when there is no room, publishes are refused.';
COMMENT ON COLUMN policies.set_by IS 'The role that was logged in.';
COMMENT ON TABLE position_acks IS 'What is acked above the floor, of positions with many ranges. View "acked_ranges" shows it as ranges.';
COMMENT ON COLUMN position_acks.position_id IS 'Number of the position; its positions.acked_above is empty.';
COMMENT ON COLUMN position_acks.page IS 'Page n covers the 1,024 sequences from 1,024 n on.';
COMMENT ON COLUMN position_acks.pages IS 'How many pages the row covers; 1 where there are bits.';
COMMENT ON COLUMN position_acks.bits IS 'One bit per sequence, 1 where it is acked, numbered as get_bit does; NULL: all are acked.';
COMMENT ON TABLE position_holders IS 'Which member of a queue group each message was sent to. Written on delivery, not on ack: it means nothing for sequences that are not in flight. See view "held_messages".';
COMMENT ON COLUMN position_holders.page IS 'Page n covers the 128 sequences from 128 n on.';
COMMENT ON COLUMN position_holders.members IS 'The subscription_id of each member that was sent a message of the page.';
COMMENT ON COLUMN position_holders.held IS 'One byte per sequence: index into members, from 1; 0: sent to none.';
COMMENT ON TABLE positions IS 'What a subscription, or the members of a queue group together, have been sent and have acked.';
COMMENT ON COLUMN positions.position_id IS 'Number of the position; never reused.';
COMMENT ON COLUMN positions.queue_group IS 'Name of the queue group; NULL outside of queue groups.';
COMMENT ON COLUMN positions.last_sent IS 'Highest sequence that was sent.';
COMMENT ON COLUMN positions.acked_floor IS 'Everything up to this sequence is acked or gone.';
COMMENT ON COLUMN positions.acked_above IS 'Acked above the floor; empty where position_acks has it. What is above the floor, up to last_sent, and in neither of these is in flight.';
COMMENT ON TABLE refused_writes IS 'What Postgres refused to store for a reason that does not pass. For an hour after the last refusal, the active sets a savepoint before each step. Rows may be deleted by hand once the reason is mended.';
COMMENT ON COLUMN refused_writes.sqlstate IS 'SQLSTATE of the error.';
COMMENT ON COLUMN refused_writes.reason IS 'The last message of Postgres.';
COMMENT ON COLUMN refused_writes.remedy IS 'How to mend it.';
COMMENT ON COLUMN refused_writes.server_id IS 'Server ID of the active that it was refused to.';
COMMENT ON COLUMN refused_writes.requests IS 'How many requests were refused.';
COMMENT ON COLUMN refused_writes.first_at IS 'When it was first refused.';
COMMENT ON COLUMN refused_writes.last_at IS 'When it was last refused.';
COMMENT ON TABLE schema_versions IS 'Migrations of these tables. Written by servers and by stanby migrate.';
COMMENT ON COLUMN schema_versions.version IS 'Version of the schema.';
COMMENT ON COLUMN schema_versions.description IS 'Title of the migration.';
COMMENT ON COLUMN schema_versions.installed_on IS 'When it was carried out.';
COMMENT ON COLUMN schema_versions.success IS 'Whether it succeeded.';
COMMENT ON COLUMN schema_versions.checksum IS 'SHA-384 of its text.';
COMMENT ON COLUMN schema_versions.execution_time IS 'How long it took, in nanoseconds.';
COMMENT ON TABLE server_info IS 'One row: the subjects that clients got when they connected. They keep using them, so the row outlives the process.';
COMMENT ON COLUMN server_info.one_row IS 'Always true: there is one row.';
COMMENT ON COLUMN server_info.cluster_id IS 'The cluster ID that clients connect to.';
COMMENT ON COLUMN server_info.discover_prefix IS 'Subject prefix of connect requests.';
COMMENT ON COLUMN server_info.publish_prefix IS 'Subject prefix of publishes.';
COMMENT ON COLUMN server_info.subscribe_subject IS 'Subject of subscribe requests.';
COMMENT ON COLUMN server_info.unsubscribe_subject IS 'Subject of unsubscribe requests.';
COMMENT ON COLUMN server_info.close_subscription_subject IS 'Subject of requests that close a subscription and keep its durable.';
COMMENT ON COLUMN server_info.close_subject IS 'Subject of requests that close a client.';
COMMENT ON COLUMN server_info.ack_prefix IS 'Subject prefix of acks.';
COMMENT ON COLUMN server_info.last_channel_id IS 'Highest number given to a channel; never reused.';
COMMENT ON COLUMN server_info.last_subscription_id IS 'Highest number given to a subscription or a position; never reused.';
COMMENT ON COLUMN server_info.created_at IS 'When the tables were first used.';
COMMENT ON TABLE set_limits IS 'Limits that operators have set for a channel; they take precedence over the configuration. NULL: as configured. 0: unlimited.';
COMMENT ON COLUMN set_limits.channel IS 'Name of the channel; it need not exist.';
COMMENT ON TABLE subscriptions IS 'Subscriptions of clients, and durables whose client is offline.';
COMMENT ON COLUMN subscriptions.subscription_id IS 'Number of the subscription; never reused.';
COMMENT ON COLUMN subscriptions.position_id IS 'Number of its position.';
COMMENT ON COLUMN subscriptions.client_id IS 'Client ID of its client; of an offline durable, of the last one.';
COMMENT ON COLUMN subscriptions.inbox IS 'Subject that messages are sent to.';
COMMENT ON COLUMN subscriptions.ack_inbox IS 'Subject that acks are sent to.';
COMMENT ON COLUMN subscriptions.max_in_flight IS 'How many unacked messages it may have.';
COMMENT ON COLUMN subscriptions.ack_wait_ns IS 'After this time without an ack, a message is sent again; in nanoseconds.';
COMMENT ON COLUMN subscriptions.online IS 'Whether its client is attached.';
COMMENT ON COLUMN subscriptions.since_ns IS 'When it was created, last resumed or closed, in nanoseconds since 1970.';
COMMENT ON TABLE takeovers IS 'The last 1,000 terms.';
COMMENT ON COLUMN takeovers.epoch IS 'Number of the term.';
COMMENT ON COLUMN takeovers.at IS 'When it began.';
COMMENT ON COLUMN takeovers.from_holder IS 'Server ID of the active before.';
COMMENT ON COLUMN takeovers.to_holder IS 'Server ID of the new active.';
COMMENT ON COLUMN takeovers.reason IS 'How the lock became free.';
COMMENT ON COLUMN takeovers.timeline_before IS 'Timeline of the former primary of Postgres.';
COMMENT ON COLUMN takeovers.timeline_after IS 'Set where Postgres had failed over since the term before; lost_ranges has what was missing then.';
COMMENT ON COLUMN takeovers.cause IS 'Why the term before ended: recorded by its active, otherwise inferred by the new one. See docs/operations.md.';
COMMENT ON COLUMN takeovers.silence IS 'From the last sign of the active before to the first commit of the new one: how long clients waited. NULL when the new one had not received one.';
COMMENT ON COLUMN takeovers.answered_from_memory IS 'Requests that the new active had received as a standby, and answered because the active before had not.';
COMMENT ON TABLE term_keys IS 'Each term encrypts with a random key of its own, stored here encrypted with an operator''s key. Deleting a row makes the messages of the term unreadable forever.';
COMMENT ON COLUMN term_keys.epoch IS 'Number of the term.';
COMMENT ON COLUMN term_keys.key_number IS 'The operator''s key that decrypts it.';
COMMENT ON COLUMN term_keys.cipher IS 'How its messages are encrypted.';
COMMENT ON COLUMN term_keys.wrapped_key IS 'The key of the term, encrypted.';
COMMENT ON COLUMN term_keys.made_at IS 'When it was made.';
COMMENT ON TABLE told_settings IS 'The settings of the last 16 servers that started. Servers do not act on them.';
COMMENT ON COLUMN told_settings.pages IS 'URL of its HTTP pages; NULL: it has none.';
COMMENT ON COLUMN told_settings.settings IS 'By the names of the flags, without secrets.';
COMMENT ON TABLE unreadable_messages IS 'Messages that subscriptions passed over because they cannot be read. Delete a row once it is dealt with.';
COMMENT ON COLUMN unreadable_messages.sequence IS 'Sequence of the message.';
COMMENT ON COLUMN unreadable_messages.why IS 'Why it cannot be read.';
COMMENT ON COLUMN unreadable_messages.noticed_at IS 'When it was noticed.';
COMMENT ON TABLE uploads IS 'Parts of messages that are too large to be sent to Postgres at once. Empty between two commits.';
COMMENT ON COLUMN uploads.message IS 'Number of the message within the commit.';
COMMENT ON COLUMN uploads.piece IS 'Number of the part.';
COMMENT ON COLUMN uploads.data IS 'Bytes of the part.';

-- Columns with one meaning in several tables and views.
COMMENT ON COLUMN active.host IS 'Host name of its machine.';
COMMENT ON COLUMN server_settings.host IS 'Host name of its machine.';
COMMENT ON COLUMN leadership.host IS 'Host name of its machine.';
COMMENT ON COLUMN told_settings.host IS 'Host name of its machine.';
COMMENT ON COLUMN channel_policies.policy_id IS 'Number of the policy.';
COMMENT ON COLUMN effective_policies.policy_id IS 'Number of the policy.';
COMMENT ON COLUMN policies.policy_id IS 'Number of the policy.';
COMMENT ON COLUMN dropped_unacked.channel IS 'Name of the channel, which may have been deleted since.';
COMMENT ON COLUMN dropped_guids.channel IS 'Name of the channel, which may have been deleted since.';
COMMENT ON COLUMN dropped_messages.channel IS 'Name of the channel, which may have been deleted since.';
COMMENT ON COLUMN message_json.client_id IS 'Client ID of its publisher.';
COMMENT ON COLUMN readable_messages.client_id IS 'Client ID of its publisher.';
COMMENT ON COLUMN outbox_status.msg_id IS 'Duplicates have the same one; NULL: they are not looked for.';
COMMENT ON COLUMN refused_publishes.msg_id IS 'Duplicates have the same one; NULL: they are not looked for.';
COMMENT ON COLUMN outbox.msg_id IS 'Duplicates have the same one; NULL: they are not looked for.';
COMMENT ON COLUMN outbox_status.publisher IS 'The role that was logged in.';
COMMENT ON COLUMN refused_publishes.publisher IS 'The role that was logged in.';
COMMENT ON COLUMN outbox.publisher IS 'The role that was logged in.';
COMMENT ON COLUMN dropped_guids.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN gone_ranges.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN lost_ranges.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN positions.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN unreadable_messages.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN outbox_refused.guid IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.channel IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.data IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.reply IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.msg_id IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.deliver_at IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.publisher IS 'As in outbox.';
COMMENT ON COLUMN outbox_refused.created_at IS 'As in outbox.';

-- Functions.
COMMENT ON FUNCTION ack(text, bigint, text, text, text) IS 'Acks a message in the caller''s transaction: when that commits, and not when it is rolled back. True: this call acked it. False: it was already acked, was dropped by a limit, or is a dead letter.';
COMMENT ON FUNCTION nack(text, bigint, text, text, text, interval, text) IS 'Has a message delivered again, after the delay, when the caller''s transaction commits. False: it was already acked, or is a dead letter.';
COMMENT ON FUNCTION admin_request(text, jsonb, boolean) IS 'Makes a request in the caller''s transaction; it is carried out after the commit. Returns the number of the request.';
COMMENT ON FUNCTION withdraw_request(bigint) IS 'Withdraws one of the caller''s own requests; false when a server has already taken it.';
COMMENT ON PROCEDURE await_request IS 'Commits, waits for the outcome of a request and returns it; raises an error if it was refused.';
COMMENT ON FUNCTION grant_channel(regrole, text, boolean, boolean) IS 'Lets a role use channels with publish(), ack() and nack(), and from then on only those that it was granted. Call it as the owner of the tables; delete rows of channel_grants to revoke.';
COMMENT ON FUNCTION grant_to_operator(regrole) IS 'Lets a role make the requests of operators and see their outcome. Call it as the owner of the tables; roles.sql does.';
COMMENT ON FUNCTION grant_to_publisher(regrole) IS 'Lets a role publish and ack in SQL, and nothing else. Call it as the owner of the tables; roles.sql does.';
COMMENT ON FUNCTION grant_to_readers() IS 'Grants roles with read access the views and the tables without secrets, and revokes the other tables. Called after each migration, and by roles.sql.';
COMMENT ON FUNCTION growing(interval, numeric, interval) IS 'Intervals for backoff: each is the one before times the factor, up to the cap.';
COMMENT ON FUNCTION messages_are_gone(text, bigint, bigint) IS 'Records that messages of a channel, from the first to the last, are gone: those that are neither in the table nor already recorded. Returns how many; subscriptions pass over them from now on.';
COMMENT ON FUNCTION published(text) IS 'The state of a message, by the GUID that publish() returned: scheduled, waiting, published (with its sequence) or refused; no row when it does not exist, or no longer. Searches what was published since.';
COMMENT ON FUNCTION publish(text, bytea, text, timestamptz, text, boolean) IS 'Publishes in the caller''s transaction: when that commits, and not when it is rolled back. Returns the GUID of the message; for a duplicate (the same msg_id on the same channel within 24 hours), the GUID of the first. wake: notify the active, which serializes commits of the whole cluster; without it, the active looks within 50 ms.';
COMMENT ON FUNCTION retry_refused(bigint[]) IS 'Puts refused publishes back into the outbox: those listed, or all. Returns how many.';
COMMENT ON FUNCTION sequence_at(bigint, timestamptz) IS 'Sequence of the first message of a channel (by its number) at or after a time; last_sequence + 1 when there is none.';
COMMENT ON FUNCTION messages_since(text, timestamptz) IS 'Messages of a channel since a time, by the primary key: messages_since(''orders'', now() - interval ''1 hour'').';
COMMENT ON FUNCTION set_policy(text, text, text, integer, interval[], text, text, text, boolean, boolean) IS 'Sets the policy of a channel, of channels by pattern, or of a durable or queue group there, and replaces the earlier one. Takes effect a moment after the commit.';
COMMENT ON FUNCTION json_or_null(text) IS 'The text as JSON; NULL where it is not JSON that Postgres can store.';
COMMENT ON FUNCTION wall_time(bigint) IS 'Nanoseconds since 1970 as timestamptz, which keeps microseconds.';

-- Functions that only servers and other functions call. The reference lists them apart, by the first word.
COMMENT ON FUNCTION ack_state(bigint, bigint) IS 'Internal: whether the message is acked, by its position, and whether it may have been sent; no row where the position no longer exists.';
COMMENT ON FUNCTION answer_requests(bigint[], text[], bigint[], bigint[], bigint[], text[], text[], text[]) IS 'Internal: the active writes the outcome of requests.';
COMMENT ON FUNCTION ensure_granted(text, boolean) IS 'Internal: raises an error where channel_grants does not let the caller use the channel.';
COMMENT ON FUNCTION may_notify() IS 'Internal: whether the first use in SQL notifies the active. It must not where transactions can be prepared; the active then looks by itself.';
COMMENT ON FUNCTION message_size(bigint, bigint, integer, integer, integer) IS 'Internal: size of a message as channels.byte_count counts it.';
COMMENT ON FUNCTION nearest_names(text, text[]) IS 'Internal: up to three of the names that are most like the given one, quoted; NULL where none is.';
COMMENT ON FUNCTION note_gone(bigint, bigint, bigint, bigint, text) IS 'Internal: records that these messages of the channel are gone. For operators there is messages_are_gone().';
COMMENT ON FUNCTION note_limits(text[], bigint[], bigint[], bigint[], bigint[], bigint[]) IS 'Internal: the active writes the limits of its configuration.';
COMMENT ON FUNCTION note_missing(text) IS 'Internal: records as gone everything that is not in messages.';
COMMENT ON FUNCTION note_sql_use() IS 'Internal: from the first call on, servers look for what is published and acked in SQL.';
COMMENT ON FUNCTION policy_matches(text, text) IS 'Internal: whether the pattern matches the channel.';
COMMENT ON FUNCTION policy_rank(text) IS 'Internal: sorts wide patterns of channels before narrow ones.';
COMMENT ON FUNCTION position_of(text, text, text, text) IS 'Internal: the position of a durable or queue group; raises an error that names similar ones where there is none.';
COMMENT ON FUNCTION publishing_functions() IS 'Internal: the functions that grant_to_publisher() grants.';
COMMENT ON FUNCTION refuse_fixed_snapshot(text) IS 'Internal: raises an error where a transaction cannot see what was committed since it began, or cannot write.';
COMMENT ON FUNCTION refuse_read_only(text) IS 'Internal: raises the error of a call that writes in a read-only transaction.';
COMMENT ON FUNCTION refuse_unsent(text, bigint) IS 'Internal: raises the error of an ack of a message that was not sent.';
COMMENT ON FUNCTION first_sequence_since(bigint, bigint) IS 'Internal: sequence of the first message of the channel at or after a time; NULL when there is none.';
COMMENT ON FUNCTION take_outbox(bigint[], bigint[], text[], text[]) IS 'Internal: the active takes rows of the outbox.';
COMMENT ON FUNCTION text_or_null(bytea) IS 'Internal: the bytes as text where they are valid UTF-8, else NULL.';
COMMENT ON FUNCTION varint_size(bigint) IS 'Internal: bytes of a number in an encoded message.';
COMMENT ON FUNCTION wait_for_lock(bigint, integer) IS 'Internal: waits up to slice_ms for the advisory lock; returns whether the session holds it.';

-- Requests of operators, as a function and as a procedure. Functions are named with their types here, because others may have made
-- more of the same name.
DO $$
DECLARE
    made record;
BEGIN
    FOR made IN SELECT * FROM (VALUES
        ('create_channel', 'text, bigint, bigint, bigint, interval, interval, boolean',
         'Creates a channel with limits of its own. 0 is unlimited.'),
        ('limit_channel', 'text, bigint, bigint, bigint, interval, interval, boolean, boolean',
         'Sets limits of a channel, and returns its limits and where each comes from. 0 is unlimited; reset: as configured.'),
        ('purge', 'text, bigint, timestamptz, bigint, boolean, boolean',
         'Drops the oldest messages of a channel: before a sequence, before a time, all but the last ones, or all.'),
        ('delete_message', 'text, bigint, bigint, bigint, boolean',
         'Deletes messages of a channel: one, or all from the first to the last.'),
        ('delete_channel', 'text, boolean, boolean',
         'Deletes a channel with its messages. force: even if it has subscriptions.'),
        ('republish', 'text, bigint, bigint, bigint, text, boolean',
         'Publishes messages of a channel again: as its newest ones, or to another channel.'),
        ('redrive', 'text, bigint, bigint, bigint, text, boolean',
         'Publishes dead letters of a channel again to their origin: the given ones, or all that were not yet.'),
        ('seek', 'text, text, text, bigint, timestamptz, text, text, boolean',
         'Moves a durable or queue group to another position: first, last, new, a sequence or a time.'),
        ('pause', 'text, text, text, text, boolean',
         'Pauses a durable: nothing is delivered to it until it is resumed.'),
        ('resume', 'text, text, text, text, boolean',
         'Resumes a paused durable.'),
        ('ack_message', 'text, text, bigint, text, text, boolean',
         'Acks a message that was delivered, on behalf of its client.'),
        ('skip', 'text, text, bigint, bigint, bigint, text, text, boolean',
         'Acks messages for a durable, delivered or not: one, or all from the first to the last.'),
        ('remove_durable', 'text, text, text, text, boolean, boolean',
         'Removes a durable and its position. force: even if members of it are connected.'),
        ('kick', 'text, boolean',
         'Closes a client, as missed heartbeats would.'),
        ('step_down', 'boolean, boolean',
         'Has the active hand over to a standby. force: even if there is none.')
    ) AS verbs (name, types, comment) LOOP
        EXECUTE format('COMMENT ON FUNCTION %I(%s) IS %L', 'request_' || made.name, made.types,
                       made.comment || ' In the caller''s transaction; returns the number of the request.');
        EXECUTE format('COMMENT ON PROCEDURE %I(%s, jsonb) IS %L', made.name, made.types,
                       made.comment || ' Commits, and waits for the outcome.');
    END LOOP;
END $$;

-- A vacuum of this table may take hours, and comments are no reason to keep a server from its start.
DO $comments$
BEGIN
    COMMENT ON TABLE messages IS 'Published messages. Subscriptions pass over rows that are deleted by hand.';
    COMMENT ON COLUMN messages.published_at_ns IS 'In nanoseconds since 1970; never earlier than that of the previous message of the channel.';
    COMMENT ON COLUMN messages.epoch IS 'Term that stored it; shows that no two terms interleaved.';
    COMMENT ON COLUMN messages.guid IS 'The publisher''s ID of this publish; a publish that is tried again has a new one.';
    COMMENT ON COLUMN messages.reply IS 'Subject for answers, if the publisher gave one.';
    COMMENT ON COLUMN messages.data IS 'The payload.';
    COMMENT ON COLUMN messages.encrypted IS 'data is encrypted with the key of the term in column epoch, and is 24 bytes longer than the payload.';
    COMMENT ON COLUMN messages.client_id IS 'Client ID of its publisher.';
    COMMENT ON COLUMN messages.channel_id IS 'Number of the channel.';
EXCEPTION WHEN lock_not_available THEN
    RAISE WARNING 'the comments of table messages stay as they were: the table is locked, by VACUUM perhaps';
END
$comments$;
