-- A store as it looks after two days of work, of as many messages as stanby.cookbook_messages says.
SET search_path = stanby;
INSERT INTO server_info (cluster_id, discover_prefix, publish_prefix, subscribe_subject, unsubscribe_subject,
                         close_subscription_subject, close_subject, ack_prefix, last_channel_id, last_subscription_id)
VALUES ('cookbook', '_STAN.discover', 'p', 's', 'u', 'cs', 'c', 'a', 2, 5);
UPDATE leadership SET epoch = 2, holder = 'second', host = 'two', pid = 12, since = now() - interval '1 hour', lease_ms = 2000,
    lock_key = 4711;
INSERT INTO takeovers (epoch, at, from_holder, to_holder, reason, lock_wait, load_time, first_ack, cause, detail, silence,
                       answered_from_memory)
VALUES (1, now() - interval '2 days', NULL, 'first', 'first', '0', '10 ms', '15 ms', NULL, NULL, NULL, NULL),
       (2, now() - interval '1 hour', 'first', 'second', 'lock', '47 hours', '40 ms', '60 ms', 'connection-lost',
        'its session ended', '180 ms', 3);
INSERT INTO clients VALUES
    ('billing-1', '', 'h1', 1, 5, 3, ((extract(epoch FROM now()) - 3600) * 1e9)::bigint, (extract(epoch FROM now()) * 1e9)::bigint, 0),
    ('audit-1', '', 'h2', 1, 5, 3, ((extract(epoch FROM now()) - 7200) * 1e9)::bigint,
     ((extract(epoch FROM now()) - 90) * 1e9)::bigint, 2);
INSERT INTO messages (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data)
SELECT 1, n, ((extract(epoch FROM now()) - 2 * 86400.0) * 1e9)::bigint + n * (172800000000000 / :messages), 1,
       'pub-' || n % 7, 'guid' || n, '',
       convert_to(CASE WHEN n % 5000 = 0 THEN 'no JSON'
                       ELSE format('{"id": %s, "customer": {"name": "c%s"}, "total": %s}', n, n % 1000, n % 97) END, 'UTF8')
FROM generate_series(1, :messages) AS n;
INSERT INTO messages (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data)
SELECT 2, n, (extract(epoch FROM now()) * 1e9)::bigint, 2, 'till', 'small' || n, '', '\xff00'::bytea FROM generate_series(1, 3) AS n;
INSERT INTO channels
SELECT 1, 'orders', min(published_at_ns), false, 1, :messages, max(published_at_ns), :messages, :messages * 100::bigint
FROM messages WHERE channel_id = 1;
INSERT INTO channels SELECT 2, 'small', max(published_at_ns), false, 1, 3, max(published_at_ns), 3, 60
FROM messages WHERE channel_id = 2;
INSERT INTO positions VALUES
    (1, 1, 'billing', NULL, :messages - 10, :messages - 5010, int8multirange(int8range(:messages - 5000, :messages - 4000))),
    (2, 1, 'audit', NULL, :messages, :messages, '{}'),
    (3, 1, 'old', 'workers', 100, 100, '{}');
INSERT INTO subscriptions VALUES
    (1, 1, 'billing-1', 'i1', 'a1', 1024, 30000000000, true, 0),
    (2, 2, 'audit-1', 'i2', 'a2', 1024, 30000000000, true, 0);
ANALYZE;
