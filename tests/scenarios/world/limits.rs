//! The limits that a script sets: for all channels, or for one.

use stanby::core::limits::{ChannelPattern, Overrides, PerChannel};
use stanby::core::partition::Partition;

use super::World;
use crate::script::{Line, duration};

impl World {
    pub(super) fn set_limits(&mut self, line: &mut Line) -> Result<(), String> {
        if let Some(channel) = line.take("channel") {
            return self.set_limits_of(channel, line);
        }
        let limits = &mut self.settings.limits;
        let number = |text: Option<String>| text.map(|t| t.parse::<u64>()).transpose();
        let wrong = |_| "a limit is a number".to_owned();
        let index = |number: Option<u64>| number.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        limits.channels = index(number(line.take("channels")).map_err(wrong)?).or(limits.channels);
        let channel = &mut limits.channel;
        channel.subscriptions =
            index(number(line.take("subscriptions")).map_err(wrong)?).or(channel.subscriptions);
        channel.messages = number(line.take("messages"))
            .map_err(wrong)?
            .or(channel.messages);
        channel.bytes = number(line.take("bytes")).map_err(wrong)?.or(channel.bytes);
        channel.age = line.take_duration("age")?.or(channel.age);
        channel.inactivity = line.take_duration("inactivity")?.or(channel.inactivity);
        limits.clients = index(number(line.take("clients")).map_err(wrong)?).or(limits.clients);
        let in_flight = limits.in_flight.unwrap_or(u32::MAX);
        limits.in_flight = Some(line.take_number("in-flight", in_flight)?);
        let connects = limits.connects_per_second.unwrap_or(0);
        limits.connects_per_second = Some(line.take_number("connects", connects)?);
        limits.payload_bytes = line.take_number("payload", limits.payload_bytes)?;
        limits.tail_bytes = line.take_number("tail", limits.tail_bytes)?;
        limits.batch_messages = line.take_number("batch", limits.batch_messages)?;
        limits.page_messages = line.take_number("page", limits.page_messages)?;
        self.settings.replace_durables |= line.take("replace-durables").is_some();
        if let Some(channels) = line.take("serves") {
            let parse = |text: &str| ChannelPattern::parse(text.to_owned().into());
            let channels: Option<Vec<_>> = channels.split(',').map(parse).collect();
            let channels = channels.ok_or("those are no channels")?;
            self.settings.partition = Partition::new(channels);
        }
        let heartbeats = &mut self.settings.heartbeats;
        heartbeats.fail_count = line.take_number("fail-count", heartbeats.fail_count)?;
        Ok(())
    }

    /// `limits channel=foo messages=3 age=none`: of this channel, instead of the ones for all.
    fn set_limits_of(&mut self, channel: String, line: &mut Line) -> Result<(), String> {
        let pattern = ChannelPattern::parse(channel.into()).ok_or("that is no channel")?;
        let mut number = |key| {
            let parse = |text: String| match text.as_str() {
                "none" => Ok(None),
                digits => digits.parse::<u64>().map(Some),
            };
            let parsed = line.take(key).map(parse).transpose();
            parsed.map_err(|_| format!("{key} is a number or none"))
        };
        let (messages, bytes) = (number("messages")?, number("bytes")?);
        let subscriptions = number("subscriptions")?;
        let mut time = |key| {
            let parse = |text: String| match text.as_str() {
                "none" => Ok(None),
                time => duration(time).map(Some),
            };
            line.take(key).map(parse).transpose()
        };
        let own = Overrides {
            subscriptions: subscriptions.map(|max| max.and_then(|max| max.try_into().ok())),
            messages,
            bytes,
            age: time("age")?,
            inactivity: time("inactivity")?,
        };
        self.overrides.push((pattern, own));
        let limits = &mut self.settings.limits;
        limits.per_channel = PerChannel::new(self.overrides.clone(), limits.channel);
        Ok(())
    }
}
