//! Subscriptions of a client that listens and acks nothing.

use stanby::core::request::StartPosition;
use stanby::protocol::client;

use super::{StanClient, ask};

impl StanClient {
    /// Subscribes from the first message on, and acks nothing. `queue` and `durable` may be empty.
    pub(crate) async fn hold(
        &self,
        channel: &str,
        queue: &str,
        durable: &str,
        max_in_flight: i32,
    ) -> Result<(), String> {
        self.hold_for(channel, queue, durable, max_in_flight, 30)
            .await
    }

    /// The same with an ack wait, in seconds.
    pub(crate) async fn hold_for(
        &self,
        channel: &str,
        queue: &str,
        durable: &str,
        max_in_flight: i32,
        ack_wait_seconds: i32,
    ) -> Result<(), String> {
        let inbox = self.nats.new_inbox();
        let listens = self.nats.subscribe(inbox.clone()).await;
        let listens = listens.map_err(|error| error.to_string())?;
        self.held.lock().unwrap().push(listens);
        let request = client::subscribe_request(&client::Subscribe {
            client_id: &self.id,
            channel,
            inbox: &inbox,
            queue_group: queue,
            durable_name: durable,
            max_in_flight,
            ack_wait_seconds,
            start: StartPosition::First,
        });
        let answer = ask(&self.nats, &self.subjects.subscribe, request).await?;
        let subscribed = client::subscribe_response(answer);
        subscribed.map(drop).map_err(|refusal| refusal.to_string())
    }
}
