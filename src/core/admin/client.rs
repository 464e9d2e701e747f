//! Clients are closed, and the active steps down.

use super::arguments::{Arguments, unknown};
use super::{RequestError, RequestRow, Step, shortened};
use crate::core::broker::Broker;
use crate::core::group::Group;
use crate::core::ids::ClientId;
use crate::core::notice::Notice;

impl Broker {
    /// Ends the client as missed heartbeats would. It finds out when it pings next, or publishes.
    pub(super) fn kick(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let name = given.need("client_id")?;
        given.finish()?;
        let Some(client) = self.clients.get(name) else {
            let others = self.clients.all().keys().map(ClientId::as_str);
            return Err(unknown("client", name, others));
        };
        let is_durable = |position| self.groups.get(position).is_some_and(Group::is_durable);
        let subscriptions = client.subscriptions.len();
        let durables = client.subscriptions.iter();
        let durables = durables.filter(|(position, _)| is_durable(position));
        let facts = vec![
            ("client_id", name.into()),
            ("subscriptions", subscriptions.into()),
            ("durables_that_stay", durables.count().into()),
        ];
        if !row.dry_run {
            self.notices
                .push_back(Notice::ClientKicked(shortened(name)));
            self.close_client(name);
        }
        Ok(Step::Done(facts))
    }

    /// Whether a standby waits is for whoever asks to know.
    pub(super) fn step_down(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        given.finish()?;
        if !row.dry_run {
            self.admin.steps_down = Some(false);
        }
        Ok(Step::Done(vec![("steps_down", true.into())]))
    }
}
