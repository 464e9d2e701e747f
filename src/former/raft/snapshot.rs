//! A snapshot: `meta.json` and `state.bin`.

use std::cmp::Ordering;

use crc::{CRC_64_XZ, Crc};
use data_encoding::BASE64;
use prost::Message as _;
use serde::Deserialize;

use super::entry::Member;
use super::records::Snapshot;
use crate::former::Broken;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    #[serde(rename = "ID")]
    pub id: String,
    pub index: u64,
    pub term: u64,
    configuration: Configuration,
    #[serde(default)]
    pub configuration_index: u64,
    size: u64,
    /// Null while it is written.
    #[serde(rename = "CRC")]
    checksum: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
struct Configuration {
    servers: Vec<Server>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
struct Server {
    suffrage: u64,
    #[serde(rename = "ID")]
    id: String,
}

impl Meta {
    pub fn decode(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// The nodes of the cluster.
    pub fn members(&self) -> Vec<Member> {
        let servers = self.configuration.servers.iter();
        let member = |server: &Server| Member {
            id: server.id.clone(),
            votes: server.suffrage == 0,
        };
        servers.map(member).collect()
    }

    /// The newest is the greatest.
    pub fn by_age(&self, other: &Self) -> Ordering {
        (self.term, self.index, &self.id).cmp(&(other.term, other.index, &other.id))
    }

    /// The state that it is about.
    pub fn state(&self, state: &[u8]) -> Result<Snapshot, Broken> {
        let expected = self.checksum.as_ref().ok_or("it was never finished")?;
        let found = Crc::<u64>::new(&CRC_64_XZ).checksum(state).to_be_bytes();
        if state.len() as u64 != self.size || BASE64.encode(&found) != *expected {
            return Err("its checksum is wrong".into());
        }
        let (length, record) = state.split_first_chunk::<4>().ok_or("it is empty")?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let record = record.get(..length).ok_or("it is cut")?;
        Ok(Snapshot::decode(record)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_reflected_one() {
        let found = Crc::<u64>::new(&CRC_64_XZ).checksum(b"123456789");
        assert_eq!(found, 0x995D_C9BB_DF19_39FA);
    }

    #[test]
    fn an_unfinished_snapshot_is_none() {
        let json = br#"{"Version":1,"ID":"2-5-1","Index":5,"Term":2,"Configuration":{"Servers":[{"Suffrage":0,
            "ID":"a","Address":"x"},{"Suffrage":1,"ID":"b","Address":"y"}]},"Size":4,"CRC":null}"#;
        let meta = Meta::decode(json).unwrap();
        assert_eq!((meta.index, meta.term), (5, 2));
        let members = meta.members();
        let votes = members.iter().map(|it| (it.id.as_str(), it.votes));
        assert_eq!(votes.collect::<Vec<_>>(), [("a", true), ("b", false)]);
        assert!(meta.state(&[0; 4]).is_err());
    }
}
