-- 10,000 clients; 5,000 channels of OLD messages that everybody has acked and 16 more; in each channel a plain
-- subscription and a durable with 12 messages unacked, and a queue group of two members with 16: 20,000 subscriptions,
-- 200,000 unacked messages.
INSERT INTO clients
SELECT 'client-' || n, convert_to('connection-' || n, 'UTF8'), 'scale.hb.' || n, 1, 5, 3, 0, 0, 0
FROM generate_series(0, 9999) AS n;

INSERT INTO channels
SELECT n, 'channel.' || n, 0, false, 1, OLD + 16, 1600000000000000000, OLD + 16,
       (OLD + 16) * (128 + 5 + 10 + 10 + length('channel.' || n))
FROM generate_series(1, 5000) AS n;

INSERT INTO messages
SELECT channel, sequence, 1600000000000000000, 1, 'client-0', channel || '-' || sequence, '',
       convert_to(repeat('x', 128), 'UTF8')
FROM generate_series(1, 5000) AS channel, generate_series(1, OLD + 16) AS sequence;

-- Position p of kind p % 3: plain, durable, queue group.
INSERT INTO positions
SELECT p + 1, p / 3 + 1,
       CASE WHEN p % 3 = 1 THEN 'durable' END,
       CASE WHEN p % 3 = 2 THEN 'group' END,
       OLD + CASE WHEN p % 3 = 2 THEN 16 ELSE 12 END, OLD, '{}'
FROM generate_series(0, 14999) AS p;

INSERT INTO subscriptions
SELECT 20000 + s, p + 1, 'client-' || (s % 10000), 'scale.in.' || p, 'ack.' || (20000 + s),
       1024, 600000000000, true, 0
FROM (
    SELECT p, row_number() OVER (ORDER BY p, member) AS s
    FROM generate_series(0, 14999) AS p, generate_series(0, 1) AS member
    WHERE p % 3 = 2 OR member = 0
) AS members;

UPDATE server_info SET last_channel_id = 5000, last_subscription_id = 100000;
ANALYZE;
