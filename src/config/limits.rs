//! Limits of channels and subscriptions, from the flags and files that give them.

use std::fmt;
use std::time::Duration;

use super::channel_limits::{self, ChannelEntry, per_channel};
use super::duration::GoDuration;
use super::error::Error;
use super::flags::ServeFlags;
use crate::core::limits::{ChannelLimits, Limits};

/// Zero means unlimited, as for NATS Streaming.
pub(super) fn limits(flags: &ServeFlags) -> Result<Limits, Error> {
    let defaults = Limits::default();
    let channel = &defaults.channel;
    let bytes = flags.max_bytes.map(|size| size.0);
    let channels = count(flags.max_channels, defaults.channels, "channels")?;
    let channel = ChannelLimits {
        subscriptions: count(flags.max_subs, channel.subscriptions, "subscriptions")?,
        messages: count(flags.max_msgs, channel.messages, "messages")?,
        bytes: count(bytes, channel.bytes, "bytes")?,
        age: time(flags.max_age, channel.age, "age")?,
        inactivity: time(flags.max_inactivity, channel.inactivity, "inactivity")?,
    };
    let connects = count(
        flags.connect_rate,
        defaults.connects_per_second,
        "connects per second",
    )?;
    Ok(Limits {
        clients: count(flags.max_clients, defaults.clients, "clients")?,
        channels,
        connects_per_second: connects,
        in_flight: count(
            flags.max_in_flight,
            defaults.in_flight,
            "messages in flight",
        )?,
        channel,
        per_channel: per_channel(channel_entries(flags)?, channel, channels)?,
        ..defaults
    })
}

/// The entries of the flags, and those of the file that no flag replaces.
pub(super) fn channel_entries(flags: &ServeFlags) -> Result<Vec<ChannelEntry>, Error> {
    let mut entries = channel_limits::parse(&flags.channel_limits)?;
    let replaced = |entry: &&ChannelEntry| entries.iter().any(|e| e.pattern == entry.pattern);
    let of_file = flags.channels_of_file.iter();
    let kept: Vec<_> = of_file.filter(|entry| !replaced(entry)).cloned().collect();
    entries.extend(kept);
    Ok(entries)
}

fn count<T: TryFrom<i64>>(
    given: Option<i64>,
    default: Option<T>,
    what: &str,
) -> Result<Option<T>, Error> {
    match given {
        None => Ok(default),
        Some(0) => Ok(None),
        Some(value) => T::try_from(value)
            .map(Some)
            .map_err(|_| negative(what, value)),
    }
}

fn time(
    given: Option<GoDuration>,
    default: Option<Duration>,
    what: &str,
) -> Result<Option<Duration>, Error> {
    match given {
        None => Ok(default),
        Some(value) if value.is_negative() => Err(negative(what, value)),
        Some(value) => Ok(Some(value.to_std()).filter(|duration| !duration.is_zero())),
    }
}

fn negative(what: &str, value: impl fmt::Display) -> Error {
    Error::new(format!("max {what} limit cannot be negative ({value})"))
}
