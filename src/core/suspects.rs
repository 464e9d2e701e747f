//! Keeps clients from paying for each other's refused writes: no request is refused because of another client's, and none
//! waits long while those of others are tried one by one.

use std::collections::BTreeMap;

use super::event::Event;
use super::request::{Publisher, Request};
use super::savepoint::{Input, is_request};

/// After many refusals for one cause so many requests of one kind and publisher are still tried, because they may be
/// good.
const TRIED_MAX: usize = 4;

const SUSPECTS_MAX: usize = 1024;

/// Publishers of which something was refused, and how much in a row, until something of them is stored.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<Publisher, usize>);

impl Suspects {
    pub(super) fn add(&mut self, input: &Input) {
        if let Some(publisher) = publisher(input)
            && (self.0.len() < SUSPECTS_MAX || self.0.contains_key(publisher))
        {
            *self.0.entry(publisher.clone()).or_default() += 1;
        }
    }

    /// All requests are publishes of one of which so many in a row were refused.
    pub(super) fn are_known(&self, inputs: &[Input], in_a_row: usize) -> bool {
        let mut requests = inputs.iter().filter(|input| is_request(input));
        let Some(first) = requests.next().and_then(publisher) else {
            return false;
        };
        self.0.get(first).is_some_and(|&count| count >= in_a_row)
            && requests.all(|input| publisher(input) == Some(first))
    }

    pub(super) fn clear(&mut self, input: &Input) {
        if let Some(publisher) = publisher(input) {
            self.0.remove(publisher);
        }
    }

    /// Steps to be tried one after the other: what suspects publish after what came with it. Requests that change who is
    /// registered keep their place.
    pub(super) fn set_apart(&self, inputs: Vec<Input>) -> Vec<Vec<Input>> {
        let mut steps = Vec::new();
        let (mut others, mut suspected) = (Vec::new(), Vec::new());
        for input in inputs {
            match publisher(&input) {
                Some(publisher) if self.0.contains_key(publisher) => suspected.push(input),
                Some(_) => others.push(input),
                None => {
                    if is_request(&input) && !suspected.is_empty() {
                        steps.push(std::mem::take(&mut others));
                        steps.push(std::mem::take(&mut suspected));
                    }
                    others.push(input);
                }
            }
        }
        steps.extend([others, suspected]);
        steps.retain(|step| !step.is_empty());
        steps
    }
}

fn publisher(input: &Input) -> Option<&Publisher> {
    match input {
        Input::Event(Event::Request(Request::Publish { request, .. })) => Some(&request.publisher),
        Input::Event(_) | Input::Timers(..) | Input::Limits(_) | Input::Progress(_) => None,
    }
}

/// What was refused together after many that were refused for the same cause.
pub(super) enum Alike {
    /// What is no request and the first publisher's, to be tried without the others, and the others.
    Apart {
        first: Vec<Input>,
        others: Vec<Input>,
    },
    /// Publishes of one publisher, or connects, and so many that trying each by itself would hold up everybody.
    All {
        /// A few, and what is no request.
        tried: Vec<Input>,
        requests: Vec<Input>,
    },
    /// In their order, to be tried in halves.
    Unknown(Vec<Input>),
}

impl Alike {
    pub(super) fn sort(inputs: Vec<Input>) -> Self {
        let first = inputs.iter().find(|input| is_request(input));
        let Some(Input::Event(Event::Request(first))) = first.cloned() else {
            return Self::Unknown(inputs);
        };
        let is_of_kind = |input: &Input| match (&first, input) {
            (Request::Publish { .. }, Input::Event(Event::Request(Request::Publish { .. })))
            | (Request::Connect { .. }, Input::Event(Event::Request(Request::Connect { .. }))) => {
                true
            }
            (_, input) => !is_request(input),
        };
        // Requests of different kinds have to stay in their order.
        if !inputs.iter().all(is_of_kind) {
            return Self::Unknown(inputs);
        }
        let is_like_first = |input: &Input| match (&first, input) {
            (
                Request::Publish { request, .. },
                Input::Event(Event::Request(Request::Publish { request: other, .. })),
            ) => request.publisher == other.publisher,
            (_, input) => is_request(input),
        };
        // What is no request comes first: a commit releases the broker, which gathers what is asked for until then.
        let (requests, mut tried): (Vec<_>, Vec<_>) = inputs.into_iter().partition(is_request);
        let (mut alike, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_like_first);
        if !others.is_empty() {
            tried.append(&mut alike);
            return Self::Apart {
                first: tried,
                others,
            };
        }
        if alike.len() > TRIED_MAX {
            let requests = alike.split_off(TRIED_MAX);
            tried.append(&mut alike);
            return Self::All { tried, requests };
        }
        tried.append(&mut alike);
        Self::Unknown(tried)
    }
}
