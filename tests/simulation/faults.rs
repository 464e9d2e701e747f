//! What goes wrong from outside: nodes die and freeze, networks lose, clocks jump, operators delete.

use std::time::Duration;

use stanby::core::Event;

use crate::nats::Party;
use crate::node::Input;
use crate::replica::Change;
use crate::swarm::Kind;
use crate::world::{Step, World, nanos};

impl World {
    /// Lets something go wrong, and arranges for the next time.
    pub(crate) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let (low, high) = self.plan.fault_pause;
        let pause = self.rng.millis(low, high);
        self.after(pause, Step::Fault);
        let node = self.rng.index(self.nodes.len());
        let node = if self.rng.chance(700) {
            self.active().unwrap_or(node)
        } else {
            node
        };
        if self.plan.synchronous && self.rng.chance(400) {
            return self.fault_of_replica(node);
        }
        match self.plan.swarm.clone().draw(&mut self.rng) {
            Kind::Kill => {
                let silently = self.rng.chance(300);
                self.kill_node(node, silently);
                let rest = self.rng.millis(10, 3_000);
                self.disturb(rest);
                self.after(rest, Step::Start { node });
            }
            Kind::Freeze => {
                let (low, high) = self.rng.pick(&[(50, 800), (850, 1_200), (1_200, 4_000)]);
                let duration = self.rng.millis(low, high);
                self.disturb(duration);
                self.freeze_node(node, duration);
            }
            Kind::CutFromDatabase => {
                let duration = self.rng.millis(50, 2_500);
                self.disturb(duration);
                self.note(|| format!("node {node}: is cut from the database for {duration:?}"));
                self.nodes[node].cut_until = self.time + nanos(duration);
            }
            Kind::LoseMessages => self.lose_messages(node),
            Kind::JumpClock => self.jump_clock(node),
            Kind::DeleteMessages => self.delete_message(),
            Kind::RestartDatabase => {
                let pause = self.rng.millis(50, 3_000);
                self.disturb(pause);
                self.restart_database(pause);
            }
            Kind::RefuseWrites => self.refuse_writes(),
            Kind::CutLink => self.cut_link(),
            Kind::SlowLink => self.slow_link(),
            Kind::FailOver => {
                self.disturb(Duration::from_millis(1_500));
                self.fail_over();
            }
            Kind::CrashClient => {
                let client = self.rng.index(self.clients.len());
                self.client_crashes(client);
            }
            Kind::LeadReadsAstray => {
                let duration = self.rng.millis(100, 4_000);
                self.lead_reads_astray(duration);
            }
            Kind::HideRows => {
                let duration = self.rng.millis(50, 3_000);
                self.disturb(duration);
                self.note(|| format!("database: a policy hides rows for {duration:?}"));
                self.database.hidden_until = self.time + nanos(duration);
            }
            Kind::NarrowLink => {
                let duration = self.rng.millis(500, 6_000);
                let rate = self.rng.pick(&[96, 256, 1_024]) << 10;
                self.note(|| format!("database: {rate} bytes a second for {duration:?}"));
                self.database.narrow_until = self.time + nanos(duration);
                self.database.narrow_rate = rate;
                self.excuse_what_was_learned_before(rate);
            }
            Kind::FreezeNats => self.freeze_nats(),
            Kind::CutRoutes => self.cut_routes(),
            Kind::ReconnectStorm => self.reconnect_storm(),
        }
    }

    /// The first statement on a link that is much slower at once is as large as the link carried before: it may cost the
    /// term. The next one is not.
    fn excuse_what_was_learned_before(&mut self, rate: u64) {
        let windows = self.nodes.iter().map(|node| node.upload.bytes());
        let largest = windows.max().unwrap_or_default() as u64;
        let took = Duration::from_nanos(largest * 1_000_000_000 / rate);
        if took > self.plan.lease * 3 / 4 {
            self.disturb(took);
        }
    }

    /// Where commits wait for it: a standby knows that it has everything, unless somebody has changed that.
    fn fault_of_replica(&mut self, node: usize) {
        if self.rng.chance(300) {
            return self.change_synchronous();
        }
        self.disturb(Duration::from_secs(2));
        if self.rng.chance(700) {
            // Who was active would know better.
            self.kill_node(node, false);
            self.after(Duration::from_secs(2), Step::Start { node });
        }
        self.fail_over();
    }

    fn lose_messages(&mut self, node: usize) {
        let client = self.rng.index(self.clients.len());
        let party = self.rng.pick(&[Party::Node(node), Party::Client(client)]);
        let per_mille = self.rng.pick(&[30, 300, 1000]);
        let duration = self.rng.millis(50, 3_000);
        self.disturb(duration);
        self.note(|| format!("{party:?} loses {per_mille} of 1000 messages for {duration:?}"));
        let number = self.nats.begin_loss(party, per_mille);
        self.after(duration, Step::EndLoss { number });
    }

    fn refuse_writes(&mut self) {
        let duration = self.rng.millis(100, 4_000);
        let until = self.time + nanos(duration);
        self.disturb(duration);
        if self.rng.chance(500) {
            self.note(|| format!("database: is read-only for {duration:?}"));
            self.database.read_only_until = until;
        } else {
            self.note(|| format!("database: its disk is full for {duration:?}"));
            self.database.full_until = until;
        }
    }

    fn any_link(&mut self) -> (Party, Party) {
        let client = self.rng.index(self.clients.len());
        let node = self.rng.index(self.nodes.len());
        (Party::Client(client), Party::Node(node))
    }

    /// Between one client and one node: neither of them can notice.
    fn cut_link(&mut self) {
        let (client, node) = self.any_link();
        let duration = self.rng.millis(50, 4_000);
        self.disturb(duration);
        self.note(|| format!("the link of {client:?} and {node:?} is cut for {duration:?}"));
        let number = self.nats.cut(client, node);
        self.after(duration, Step::EndLoss { number });
    }

    /// What one client sends to one node comes late, but in order.
    fn slow_link(&mut self) {
        let (client, node) = self.any_link();
        let duration = self.rng.millis(500, 4_000);
        let extra = self.rng.millis(20, 1_500);
        self.disturb(duration + extra);
        self.note(|| format!("{client:?} to {node:?} takes {extra:?} longer for {duration:?}"));
        let until = self.time + nanos(duration);
        self.nats.slow(client, node, until, nanos(extra));
    }

    /// Whoever is at it notices when that lasts, and goes to the other one.
    fn freeze_nats(&mut self) {
        if !self.plan.two_nats {
            return;
        }
        let server = self.rng.index(2);
        let duration = self.rng.millis(50, 5_000);
        self.disturb(duration);
        self.nats_freezes(server, duration);
    }

    fn cut_routes(&mut self) {
        if !self.plan.two_nats {
            return;
        }
        let duration = self.rng.millis(50, 4_000);
        self.disturb(duration);
        self.routes_are_cut(duration);
    }

    fn reconnect_storm(&mut self) {
        let duration = self.rng.millis(500, 3_000);
        self.note(|| format!("clients come and go for {duration:?}"));
        self.disturb(duration);
        let until = self.time + nanos(duration);
        for client in 0..self.clients.len() {
            if self.rng.chance(700) {
                self.clients[client].storms_until = until;
            }
        }
    }

    fn jump_clock(&mut self, node: usize) {
        let hour = 3_600_000_000_000;
        let jump = self.rng.pick(&[
            -hour,
            -2_000_000_000,
            -1_000_000,
            1_000_000,
            2_000_000_000,
            hour,
        ]);
        self.note(|| format!("node {node}: its wall clock jumps by {jump} ns"));
        self.nodes[node].wall_offset += jump;
        self.checks.clock_jumped = true;
    }

    fn delete_message(&mut self) {
        let stored: Vec<_> = self
            .database
            .store
            .messages()
            .map(|(channel, _, m)| (channel, m.sequence))
            .collect();
        if stored.is_empty() {
            return;
        }
        let first = self.rng.index(stored.len());
        let count = self.rng.pick(&[1, 1, 5, 50]);
        for &(channel, sequence) in stored.iter().skip(first).take(count) {
            self.note(|| format!("an operator deletes {channel}#{sequence}"));
            self.database.store.delete_message(channel, sequence);
            self.replicate(Change::Deleted(channel, sequence));
            self.checks.deleted_by_operator(channel, sequence);
        }
        // The table notifies whoever holds the lock.
        for node in 0..self.nodes.len() {
            let state = &self.nodes[node];
            let incarnation = state.incarnation;
            if let Some(term) = state.term.as_ref().map(|term| term.serial) {
                let event = Box::new(Event::GoneNoted);
                let input = Input::Received { term, event };
                let step = Step::Node {
                    node,
                    incarnation,
                    input,
                };
                self.at(self.time, step);
            }
        }
    }

    fn active(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.broker().is_some())
    }

    /// No more faults: everything is to come right.
    pub(crate) fn calm_down(&mut self) {
        self.note(|| "no more faults".to_owned());
        self.calm = true;
        self.disturb(Duration::ZERO);
        self.nats.end_losses();
        self.hardships.end();
        self.database.down_until = 0;
        self.database.read_only_until = 0;
        self.database.full_until = 0;
        self.database.hidden_until = 0;
        self.plan.read_time = (1, 2);
        self.plan.commit_time = (1, 3);
        self.plan.network_time = (1, 2);
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_until = 0;
            self.after(Duration::from_millis(10), Step::Start { node });
        }
        for client in 0..self.clients.len() {
            self.client_calms_down(client);
        }
    }
}
