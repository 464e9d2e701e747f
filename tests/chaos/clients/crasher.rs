//! A client that is killed and comes back.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::publisher::send;
use super::{CHANNELS, Recorder, connect};
use crate::history::{Outcome, Publish};
use crate::stan::StanClient;

/// Connects, resumes its durable, publishes, and is gone without a word; again and again.
pub(super) struct Crasher {
    pub(super) nats_url: String,
    pub(super) cluster_id: String,
    pub(super) id: String,
    pub(super) recorder: Recorder,
}

impl Crasher {
    /// How often it was there.
    pub(super) async fn run(self, stop: CancellationToken) -> u64 {
        let mut lives = 0;
        let mut ticks = interval(Duration::from_millis(400));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            ticks.tick().await;
            let living = stop.run_until_cancelled(self.live(lives + 1));
            if matches!(living.await, Some(Ok(()))) {
                lives += 1;
            }
        }
        lives
    }

    /// Refusals and silence are what a fault may bring; the next life tries again.
    async fn live(&self, life: u64) -> Result<(), String> {
        let nats = connect(&self.nats_url).await?;
        let client = StanClient::connect(nats, &self.cluster_id, &self.id).await?;
        let channel = CHANNELS[usize::from(life.is_multiple_of(2))];
        let durable = client.subscribe(channel, "", "crashing").await?;
        for count in 1..=3 {
            let guid = format!("{}-{count}", client.connection_id);
            let data = Bytes::from(format!("message {count} of life {life}"));
            self.recorder.sent(Publish {
                channel,
                client_id: self.id.clone(),
                guid: guid.clone(),
                data: data.clone(),
                sent_at: self.recorder.now(),
                outcome: Outcome::Silence,
                is_abandoned: true,
            });
            send(&client, channel, &guid, data, client.nats.new_inbox()).await;
        }
        client
            .nats
            .flush()
            .await
            .map_err(|error| error.to_string())?;
        drop(durable);
        Ok(())
    }
}
