//! A link to Postgres that carries a few hundred kilobytes or a few megabytes per second, and messages that are large for it.

use crate::pair::{Group, LIMIT};
use crate::proxy::{Link, Proxy, Target};
use crate::support::{nats, postgres};

/// Many at once, each of which takes a good part of a lease or more.
#[tokio::test]
async fn large_messages_over_a_slow_link_are_all_acked_and_cost_no_term() {
    for (rate, messages) in [(4_000_000, 24), (500_000, 5)] {
        let (Some(database), Some(nats_url)) = (postgres::database().await, nats::url().await)
        else {
            return;
        };
        let proxy = Proxy::start_narrow(Target::Socket(database.socket.clone()));
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
            proxy.port, database.name
        );
        let mut group = Group::over(url, nats_url, &["--lease", "2s"]);
        group.cluster_id = format!("slow-{}", database.name);
        let server = group.server();
        server.wait_until_active().await;
        let _standby = group.server();
        group.wait_for_standbys(1).await;
        proxy.set(Link::Narrow(rate));
        let client = group.client("large").await;

        let mut publisher = client.publisher("orders").await;
        for _ in 0..messages {
            publisher.send_of(1_000_000).await;
        }
        for _ in 0..messages {
            assert!(publisher.take_ack(LIMIT).await, "{rate}: {}", server.log());
        }

        assert_eq!(publisher.published().errors, [""; 0], "{rate}");
        assert_eq!(publisher.published().acked.len(), messages, "{rate}");
        proxy.set(Link::Up);
        let tables = group.tables();
        let terms = tables.number("SELECT max(epoch) FROM takeovers").await;
        assert_eq!(terms, 1, "{rate}: {}", server.log());
        let stored = tables.messages("orders").await;
        for row in &stored {
            assert_eq!(publisher.published().sent[&row.guid], row.data);
        }
        assert_eq!(stored.len(), messages);
        let left = tables.number("SELECT count(*) FROM uploads").await;
        assert_eq!(left, 0);
    }
}
