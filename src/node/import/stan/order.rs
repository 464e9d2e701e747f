//! Which message of a channel has to come next. A server sends them in order, but NATS may lose some on the way, and
//! sequences that a limit dropped or an operator deleted never come. Where one is left out, the channel is asked again
//! from there; only what is left out twice in a row is not there.

/// What is to be done with a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Take,
    /// It was here before.
    Repeated,
    /// Some before it have not come: subscribe again from the one that is due.
    AskAgain,
}

/// The order of one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    last: u64,
    /// The first that the server has; those before it are not waited for.
    first: u64,
    /// Nothing has come of this subscription.
    is_fresh: bool,
    /// What came first of the subscription before, in place of the one that was due.
    instead: Option<u64>,
}

impl Order {
    /// What the server says of its first message.
    pub(super) fn begins_at(&mut self, first: u64) {
        self.first = self.first.max(first);
    }

    /// A subscription begins, with the message that is due.
    pub(super) fn subscribed(&mut self) {
        self.is_fresh = true;
    }

    /// The next one that must come.
    pub(super) fn due(&self) -> u64 {
        (self.last + 1).max(self.first)
    }

    pub(super) fn came(&mut self, sequence: u64) -> Verdict {
        if sequence <= self.last {
            return Verdict::Repeated;
        }
        let is_fresh = std::mem::take(&mut self.is_fresh);
        let instead = self.instead.take();
        if sequence <= self.due() || (is_fresh && instead == Some(sequence)) {
            self.last = sequence;
            return Verdict::Take;
        }
        self.instead = is_fresh.then_some(sequence);
        Verdict::AskAgain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed() -> Order {
        let mut order = Order::default();
        order.subscribed();
        order
    }

    #[test]
    fn messages_are_taken_in_order_and_once() {
        let mut order = subscribed();
        order.begins_at(4);
        for sequence in 4..7 {
            assert_eq!(order.came(sequence), Verdict::Take);
        }
        assert_eq!(order.came(5), Verdict::Repeated);
        assert_eq!(order.due(), 7);
    }

    #[test]
    fn what_was_lost_on_the_way_is_asked_for_again() {
        let mut order = subscribed();
        assert_eq!(order.came(1), Verdict::Take);
        assert_eq!(order.came(3), Verdict::AskAgain);
        order.subscribed();
        assert_eq!(order.came(2), Verdict::Take);
        assert_eq!(order.came(3), Verdict::Take);
    }

    #[test]
    fn what_is_left_out_twice_in_a_row_is_not_there() {
        let mut order = subscribed();
        assert_eq!(order.came(1), Verdict::Take);
        assert_eq!(order.came(5), Verdict::AskAgain);
        order.subscribed();
        // The first one may have been lost again.
        assert_eq!(order.came(6), Verdict::AskAgain);
        order.subscribed();
        assert_eq!(order.came(5), Verdict::AskAgain);
        order.subscribed();
        assert_eq!(order.came(5), Verdict::Take);
        assert_eq!(order.due(), 6);
    }

    #[test]
    fn what_limits_have_dropped_is_not_waited_for() {
        let mut order = subscribed();
        assert_eq!(order.came(1), Verdict::Take);
        order.begins_at(8);
        assert_eq!(order.came(8), Verdict::Take);
        assert_eq!(order.came(7), Verdict::Repeated);
    }
}
