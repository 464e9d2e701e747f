//! Operators who change things in the middle of everything. What they ask for is done once or not at all; a purge keeps
//! what it is to keep; a durable that is moved gets everything from its new place on.

use stanby::core::admin::{Fact, RequestChange, RequestId, RequestRow};
use stanby::core::batch::Batch;
use stanby::core::ids::{ChannelId, PositionId, Sequence};

use crate::rng::Rng;
use crate::world::{Step, World};

#[derive(Debug)]
pub(crate) struct Operators {
    rng: Rng,
    /// Arguments of durables that are paused, or about to be.
    paused: Vec<Arguments>,
}

type Arguments = Vec<(&'static str, String)>;

/// What a purge may drop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) before: Option<Sequence>,
    pub(crate) keep: Option<u64>,
}

impl Operators {
    /// In some worlds, and in none where a checker is to notice something else, or tables go back to an earlier time, or
    /// applications ack in transactions of their own.
    pub(crate) fn new(seed: u64, is_plain: bool) -> Option<Self> {
        (seed % 5 == 2 && !seed.is_multiple_of(3) && is_plain).then(|| Self {
            rng: Rng::new(seed ^ 0x0ad0_1155),
            paused: Vec::new(),
        })
    }
}

impl World {
    pub(crate) fn ask_as_operator(&mut self) {
        let is_down = self.time < self.database.down_until;
        let rows = self.database.store.snapshot();
        let Some(operators) = &mut self.operators else {
            return;
        };
        let mut asks: Vec<(&str, Arguments)> = Vec::new();
        if self.calm {
            // The last time: nobody is to wait for ever.
            let paused = operators.paused.drain(..);
            asks.extend(paused.map(|arguments| ("durable resume", arguments)));
        } else if !is_down {
            let rng = &mut operators.rng;
            let channels: Vec<_> = rows
                .channels
                .iter()
                .filter(|(_, row)| !row.deleting)
                .collect();
            let clients: Vec<_> = rows.clients.keys().collect();
            let positions: Vec<_> = rows.positions.iter().collect();
            match rng.index(10) {
                0..=3 if !channels.is_empty() => {
                    let (_, row) = channels[rng.index(channels.len())];
                    let channel = ("channel", row.name.to_string());
                    let bound = if rng.chance(500) {
                        ("keep", rng.index(30).to_string())
                    } else {
                        let span = usize::try_from(row.message_count).unwrap_or(0) + 1;
                        let before = row.first_sequence.0 + rng.index(span) as u64;
                        ("before", before.to_string())
                    };
                    asks.push(("channel purge", vec![channel, bound]));
                }
                4..=6 if !positions.is_empty() => {
                    let (id, position) = positions[rng.index(positions.len())];
                    let channel = &rows.channels[&position.channel];
                    if let Some(mut arguments) = named(&rows, *id) {
                        let to = match rng.index(3) {
                            0 => "first".to_owned(),
                            1 => "new".to_owned(),
                            _ => {
                                let span = usize::try_from(channel.message_count).unwrap_or(0) + 1;
                                (channel.first_sequence.0 + rng.index(span) as u64).to_string()
                            }
                        };
                        arguments.push(("to", to));
                        asks.push(("durable seek", arguments));
                    }
                }
                7 if !positions.is_empty() => {
                    let (id, _) = positions[rng.index(positions.len())];
                    if let Some(arguments) = named(&rows, *id) {
                        operators.paused.push(arguments.clone());
                        asks.push(("durable pause", arguments));
                    }
                }
                8 => {
                    let resumed = operators.paused.pop();
                    asks.extend(resumed.map(|arguments| ("durable resume", arguments)));
                }
                _ if !clients.is_empty() => {
                    let client = clients[rng.index(clients.len())].to_string();
                    asks.push(("client kick", vec![("client_id", client)]));
                }
                _ => {}
            }
        }
        if !self.calm {
            let pause = operators.rng.millis(50, 2_500);
            self.after(pause, Step::Ask);
        }
        let is_asked = !asks.is_empty();
        for (verb, arguments) in asks {
            self.note(|| format!("an operator asks for {verb} {arguments:?}"));
            let arguments = arguments.into_iter();
            let row = RequestRow {
                id: RequestId::default(),
                verb: verb.into(),
                arguments: arguments
                    .map(|(name, text)| (name.into(), text.into()))
                    .collect(),
                dry_run: false,
                taken: None,
            };
            self.database.store.ask(row);
        }
        if is_asked {
            self.tell_of_outbox();
        }
    }

    /// What a batch that is about to be committed does for operators, so that the checks expect it.
    pub(crate) fn expect_of_operators(&mut self, batch: &Batch) {
        if batch.requests.is_empty() {
            return;
        }
        let rows = self.database.store.snapshot();
        let asked = self.database.store.requests();
        let asked: Vec<_> = asked
            .filter_map(|(row, _)| Some((row.clone(), batch.requests.get(&row.id)?.clone())))
            .collect();
        for (row, change) in asked {
            let argument = |name: &str| {
                let mut arguments = row.arguments.iter();
                arguments
                    .find(|(key, _)| **key == *name)
                    .map(|(_, text)| text.to_string())
            };
            let number = |name| argument(name).and_then(|text| text.parse::<u64>().ok());
            let channel = rows.channels.iter();
            let mut channel = channel.filter(|(_, channel)| {
                !channel.deleting && Some(channel.name.to_string()) == argument("channel")
            });
            let channel = channel.next().map(|(&id, _)| id);
            match (&*row.verb, &change) {
                ("channel purge", RequestChange::Underway(_) | RequestChange::Done(_)) => {
                    let allowed = Allowed {
                        before: number("before").map(Sequence),
                        keep: number("keep"),
                    };
                    if let Some(channel) = channel {
                        self.checks.allow_purge(channel, allowed);
                    }
                }
                ("durable seek", RequestChange::Done(facts)) => {
                    let to = facts.iter().find(|(name, _)| *name == "to_sequence");
                    let position = rows.positions.keys().copied().find(|&id| {
                        let named = named(&rows, id);
                        named.is_some_and(|named| {
                            let mut named = named.into_iter();
                            named.all(|(name, text)| argument(name) == Some(text))
                        })
                    });
                    if let (Some((_, Fact::Number(to))), Some(position)) = (to, position) {
                        self.checks.moves(position, Sequence(*to));
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn check_operators(&mut self) {
        let open = self.database.store.requests();
        let open = open.filter(|(_, answer)| answer.is_none()).count();
        self.checks.require(open == 0, || {
            format!("what operators ask for is answered in the end: {open} requests are not")
        });
    }
}

/// The client that an operator has had closed, of the answer to that.
pub(crate) fn kicked(answer: &RequestChange) -> Option<&str> {
    let RequestChange::Done(facts) = answer else {
        return None;
    };
    let closes = facts.iter().any(|(name, _)| *name == "durables_that_stay");
    let clients = facts.iter().filter(|(name, _)| *name == "client_id");
    let mut clients = clients.filter_map(|(_, fact)| match fact {
        Fact::Text(text) => Some(&**text),
        Fact::Number(_) | Fact::Flag(_) | Fact::Nothing => None,
    });
    clients.next().filter(|_| closes)
}

/// What tells a position from others; `None` where it has no name.
fn named(rows: &stanby::core::snapshot::Snapshot, id: PositionId) -> Option<Arguments> {
    let position = rows.positions.get(&id)?;
    position.durable_name.as_ref()?;
    let channel: ChannelId = position.channel;
    let mut arguments = vec![("channel", rows.channels.get(&channel)?.name.to_string())];
    let durable = position.durable_name.as_ref();
    arguments.extend(durable.map(|name| ("durable", name.to_string())));
    if let Some(queue) = &position.queue_group {
        arguments.push(("queue_group", queue.to_string()));
    } else {
        let mut members = rows.subscriptions.values();
        let owner = members.find(|row| row.position == id)?;
        arguments.push(("client_id", owner.client_id.to_string()));
    }
    Some(arguments)
}
