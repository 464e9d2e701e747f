//! Sessions of Postgres, a lock and the queue for it, as data. The simulation's Postgres is made of it; the store tests keep it
//! honest by doing the same to a real one.

use std::collections::{BTreeMap, VecDeque};

pub(crate) type SessionId = u64;

/// `S` is what a session may have under way.
#[derive(Debug)]
pub(crate) struct Sessions<S> {
    live: BTreeMap<SessionId, Live<S>>,
    holder: Option<SessionId>,
    queue: VecDeque<SessionId>,
    opened: SessionId,
}

#[derive(Debug)]
struct Live<S> {
    executing: Option<S>,
    /// Its client has gone; it ends with the statement under way.
    is_abandoned: bool,
}

impl<S> Default for Sessions<S> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            holder: None,
            queue: VecDeque::new(),
            opened: 0,
        }
    }
}

impl<S> Sessions<S> {
    pub(crate) fn open(&mut self) -> SessionId {
        self.opened += 1;
        let session = Live {
            executing: None,
            is_abandoned: false,
        };
        self.live.insert(self.opened, session);
        self.opened
    }

    pub(crate) fn ids(&self) -> Vec<SessionId> {
        self.live.keys().copied().collect()
    }

    pub(crate) fn is_open(&self, id: SessionId) -> bool {
        self.live.contains_key(&id)
    }

    /// Who has the lock.
    pub(crate) fn holder(&self) -> Option<SessionId> {
        self.holder
    }

    /// Who waits for it, who came first first.
    pub(crate) fn queue(&self) -> impl Iterator<Item = SessionId> {
        self.queue.iter().copied()
    }

    pub(crate) fn executing(&self, id: SessionId) -> Option<&S> {
        self.live.get(&id)?.executing.as_ref()
    }

    pub(crate) fn begin(&mut self, id: SessionId, statement: S) {
        if let Some(session) = self.live.get_mut(&id) {
            session.executing = Some(statement);
        }
    }

    /// The statement asks for the lock, and is under way until it is granted.
    pub(crate) fn ask_for_lock(&mut self, id: SessionId, statement: S) {
        self.begin(id, statement);
        self.queue.push_back(id);
    }

    /// Gives the lock to who has waited longest, where it is free.
    pub(crate) fn grant(&mut self) -> Option<SessionId> {
        if self.holder.is_some() {
            return None;
        }
        self.holder = self.queue.pop_front();
        self.holder
    }

    /// The statement under way is done. True when the session is to end with it.
    pub(crate) fn finish(&mut self, id: SessionId) -> bool {
        let Some(session) = self.live.get_mut(&id) else {
            return false;
        };
        session.executing = None;
        session.is_abandoned
    }

    /// By its client, a timeout or an operator: whatever was under way is undone, and the lock is free.
    pub(crate) fn end(&mut self, id: SessionId) {
        self.live.remove(&id);
        self.queue.retain(|&waiting| waiting != id);
        if self.holder == Some(id) {
            self.holder = None;
        }
    }

    /// Its client has gone. False when it ends at once; else what it has under way as the holder of the lock is done first.
    pub(crate) fn abandon(&mut self, id: SessionId) -> bool {
        let holds = self.holder == Some(id);
        let Some(session) = self.live.get_mut(&id) else {
            return false;
        };
        session.is_abandoned = holds && session.executing.is_some();
        session.is_abandoned
    }

    /// Nobody waits any more: Postgres itself ends.
    pub(crate) fn clear_queue(&mut self) {
        self.queue.clear();
    }
}
