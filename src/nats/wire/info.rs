//! What a NATS server says of itself, when a connection begins and whenever something changes.

use serde::Deserialize;

/// Fields that are missing are at their defaults: older servers know fewer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Info {
    /// The server's ID, new at each start.
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    /// To be signed with an nkey.
    pub nonce: Option<String>,
    /// Largest payload that the server takes, in bytes; 0 when it does not say.
    pub max_payload: usize,
    pub tls_required: bool,
    pub tls_available: bool,
    /// `host:port` of the cluster's servers.
    pub connect_urls: Vec<String>,
    /// The server is about to close its connections, to shut down.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
}

impl Info {
    /// `None` when it is not JSON of the known form.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_at_its_default_and_what_is_unknown_does_no_harm() {
        let info = Info::parse(br#"{"max_payload":1048576,"ldm":true,"go":"go1.19","x":{}}"#);
        let expected = Info {
            max_payload: 1_048_576,
            lame_duck: true,
            ..Info::default()
        };
        assert_eq!(info, Some(expected));
        for bad in [&b"{"[..], b"7", b"\xff", b"{\"max_payload\":-1}", b""] {
            assert_eq!(Info::parse(bad), None, "{bad:?}");
        }
    }
}
