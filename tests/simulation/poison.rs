//! Rows that Postgres refuses for ever, whoever sends them: by a constraint, a trigger, a publication. A server sets aside
//! what such a row is for, and everything else goes on; no cause ends a term twice.

use std::time::Duration;

use stanby::core::batch::Batch;
use stanby::core::ids::{ChannelId, ClientId};
use stanby::core::refusal::Refusal;

use crate::world::{Step, World};

/// Which rows.
#[derive(Clone, Debug)]
pub(crate) enum Poison {
    /// Messages whose payload has this remainder by its bytes.
    Messages(u8),
    /// Whatever is stored in the channel.
    Channel(ChannelId),
    /// Rows of the client and of its subscriptions.
    Client(ClientId),
    /// Progress of positions with an even number.
    Progress,
    /// Deletes of messages.
    Trims,
}

/// Some payloads have each remainder.
const REMAINDERS: u8 = 13;

impl Poison {
    /// Which part of the batch it refuses.
    fn part(&self, batch: &Batch) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Messages(remainder) => {
                let mut messages = batch.messages.iter();
                messages
                    .any(|(_, message)| remainder_of(&message.data) == *remainder)
                    .then_some(("messages", "messages"))
            }
            Self::Channel(id) => {
                let mut messages = batch.messages.iter();
                messages
                    .any(|(channel, _)| channel == id)
                    .then_some(("messages", "messages"))
            }
            Self::Client(client) => {
                let subscriptions = batch.subscriptions.values().flatten();
                let mut subscriptions = subscriptions.filter(|row| row.client_id == *client);
                if matches!(batch.clients.get(client), Some(Some(_))) {
                    Some(("clients", "clients"))
                } else {
                    subscriptions
                        .next()
                        .map(|_| ("subscriptions", "subscriptions"))
                }
            }
            Self::Progress => {
                let mut positions = batch.progress.keys();
                positions
                    .any(|position| position.0.is_multiple_of(2))
                    .then_some(("progress", "positions"))
            }
            Self::Trims => (!batch.trims.is_empty()).then_some(("messages trimmed", "messages")),
        }
    }
}

fn remainder_of(data: &[u8]) -> u8 {
    let sum = data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    sum % REMAINDERS
}

impl World {
    pub(crate) fn poison_rows(&mut self, duration: Duration) {
        let poison = match self.hardships.range(0, 5) {
            0 | 1 => {
                let remainder = self.hardships.range(0, u64::from(REMAINDERS) - 1);
                Poison::Messages(u8::try_from(remainder).expect("a small number"))
            }
            2 => Poison::Channel(ChannelId(
                self.hardships.range(1, self.plan.channels as u64),
            )),
            3 => {
                let client = self.hardships.range(0, self.clients.len() as u64 - 1);
                let name = &self.clients[usize::try_from(client).expect("there are few")].name;
                let client = ClientId::parse(name.clone().into());
                Poison::Client(client.expect("the world's client IDs are valid"))
            }
            4 => Poison::Progress,
            _ => Poison::Trims,
        };
        // Some are there until the end of all faults.
        let lasts = self.hardships.chance(300);
        self.note(|| format!("database: refuses {poison:?}, for ever: {lasts}"));
        if let Poison::Client(client) = &poison {
            self.hardships.poisoned_clients.insert(client.clone());
        }
        self.hardships.poison.push(poison);
        if !lasts {
            self.after(duration, Step::EndPoison);
        }
    }

    pub(crate) fn end_poison(&mut self) {
        if !self.hardships.poison.is_empty() {
            let poison = self.hardships.poison.remove(0);
            self.note(|| format!("database: {poison:?} is refused no more"));
        }
    }

    /// Why Postgres will never store the batch.
    pub(crate) fn refusal(&self, batch: &Batch) -> Option<Refusal> {
        let mut poison = self.hardships.poison.iter();
        let (part, table) = poison.find_map(|poison| poison.part(batch))?;
        Some(Refusal {
            part,
            table: table.to_owned(),
            sqlstate: "23514".to_owned(),
            rule: "poison".to_owned(),
            reason: "a row violates a check constraint".to_owned(),
            remedy: "drop the constraint".to_owned(),
            is_out_of_room: false,
        })
    }
}
