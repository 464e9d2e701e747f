//! Entries of the log, in `MessagePack` with text in its old form, which may hold any bytes.

use bytes::Bytes;
use rmpv::Value;

use crate::former::Broken;

/// An entry that carries an operation.
const COMMAND: u64 = 0;
const CONFIGURATION: u64 = 5;

/// Nobody nests deeper here.
const DEPTH_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An operation, perhaps encrypted.
    Command(Bytes),
    /// The nodes of the cluster from here on.
    Configuration(Vec<Member>),
    /// Without consequence to the state.
    Other,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub votes: bool,
}

impl Entry {
    /// `key` is its index, as the database has it.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, Broken> {
        let key = key.try_into().map(u64::from_be_bytes);
        let key = key.map_err(|_| "an entry's key is no number")?;
        let broken = |why: &str| Broken::from(format!("entry {key} of the log {why}"));
        let entry = rmpv::decode::read_value_with_max_depth(&mut &value[..], DEPTH_MAX);
        let entry = entry.map_err(|_| broken("cannot be read"))?;
        let number = |name| field(&entry, name).and_then(Value::as_u64);
        let index = number("Index").unwrap_or(key);
        if index != key {
            return Err(broken(&format!("says that it is entry {index}")));
        }
        let data = field(&entry, "Data").and_then(bytes).unwrap_or_default();
        let what = match number("Type").unwrap_or(COMMAND) {
            COMMAND => What::Command(Bytes::copy_from_slice(data)),
            CONFIGURATION => {
                let read = rmpv::decode::read_value_with_max_depth(&mut &data[..], DEPTH_MAX);
                let configuration = read.map_err(|_| broken("lists no nodes"))?;
                What::Configuration(members(&configuration))
            }
            _ => What::Other,
        };
        Ok(Self {
            index,
            term: number("Term").ok_or_else(|| broken("has no term"))?,
            what,
        })
    }
}

fn members(configuration: &Value) -> Vec<Member> {
    let servers = field(configuration, "Servers").and_then(Value::as_array);
    let member = |server: &Value| {
        let id = field(server, "ID").and_then(bytes).unwrap_or_default();
        let suffrage = field(server, "Suffrage").and_then(Value::as_u64);
        Member {
            id: String::from_utf8_lossy(id).into_owned(),
            votes: suffrage.unwrap_or(0) == 0,
        }
    };
    servers.map_or_else(Vec::new, |servers| servers.iter().map(member).collect())
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let pairs = map.as_map()?.iter();
    let mut named = pairs.filter(|(key, _)| bytes(key) == Some(name.as_bytes()));
    named.next().map(|(_, value)| value)
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Binary(bytes) => Some(bytes),
        Value::Nil
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Array(_)
        | Value::Map(_)
        | Value::Ext(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    fn entry(index: u64, value: &str) -> Result<Entry, Broken> {
        Entry::decode(&index.to_be_bytes(), &bytes(value))
    }

    #[test]
    fn entries_of_a_real_log_are_read() {
        let no_op = "86aa417070656e6465644174a87af18be46b0af042a444617461c0aa457874656e73696f6e73c0a5496e64657802\
            a45465726d02a45479706501";
        let read = entry(2, no_op).unwrap();
        assert_eq!((read.index, read.term, read.what), (2, 2, What::Other));
        let disconnect = "86aa417070656e6465644174a839bd2c686b0af042a444617461ae0807420a0a08776f726b65722d33aa457874\
            656e73696f6e73c0a5496e64657864a45465726d02a45479706500";
        let read = entry(0x64, disconnect).unwrap();
        let operation = bytes("0807420a0a08776f726b65722d33");
        assert_eq!(read.what, What::Command(operation.into()));

        assert!(entry(3, no_op).is_err());
        assert!(entry(2, "c1").is_err());
    }
}
