//! How a connection between an SFU and signaling begins: the SFU says hello, signaling welcomes it.
//!
//! A refusal needs no message: signaling closes the connection and says why in the close.

use serde::{Deserialize, Serialize};

use crate::frame::{self, FrameError};

/// The version of all that is said on the link. Both sides must speak the same: they are upgraded together.
pub const VERSION: u16 = 1;

/// Longest name of a node, bytes: it is a DNS label in its certificate.
pub const MAX_NODE_NAME_BYTES: usize = 63;

/// What an SFU says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's name, as in its certificate.
    pub node: String,
    /// Random at each start of the process: tells a node that comes back from another one of the same name.
    pub incarnation: u64,
    /// How many participants it is meant for: new rooms go to the node that is least loaded by this measure.
    pub capacity: u32,
    /// The session that it would like to go on with.
    pub resume: Option<Resume>,
}

/// Where a side of a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The session.
    pub session: u64,
    /// What it has received.
    pub received: Received,
}

/// The last message received on each lane; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Of control.
    pub control: u64,
    /// Of data.
    pub data: u64,
}

/// What signaling answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// The session goes on; each side sends what the other has not received.
    Resumed(Received),
    /// A new session: what either side still kept of an earlier one is void.
    Fresh {
        /// Its number.
        session: u64,
    },
}

/// Why a hello could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// It is of another version.
    #[error("version {0} of the control protocol meets version {VERSION}: install the same Lectern on both")]
    Version(u16),
    /// It cannot be read, or the name in it is not one.
    #[error("the hello cannot be read")]
    Malformed,
}

impl Hello {
    /// Appends the frame: the version first, so that every later version can read at least that.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<(), FrameError> {
        frame::encode(&(VERSION, self), into)
    }

    /// Reads the payload of a frame.
    pub fn decode(payload: &[u8]) -> Result<Self, HelloError> {
        let (version, rest) = postcard::take_from_bytes::<u16>(payload).map_err(|_| HelloError::Malformed)?;
        if version != VERSION {
            return Err(HelloError::Version(version));
        }
        let hello: Self = frame::decode(rest).map_err(|_| HelloError::Malformed)?;
        if is_node_name(&hello.node) { Ok(hello) } else { Err(HelloError::Malformed) }
    }
}

/// Whether this can be a node's name: a DNS label of small letters, digits and hyphens.
pub fn is_node_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_NODE_NAME_BYTES).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: &str) -> Hello {
        Hello { node: node.to_owned(), incarnation: 300, capacity: 5, resume: None }
    }

    fn payload(hello: &Hello) -> Vec<u8> {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes).unwrap();
        bytes.split_off(4)
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        let mut bytes = payload(&hello("hall"));
        assert_eq!(Hello::decode(&bytes), Ok(hello("hall")));
        bytes[0] = 9;
        assert_eq!(Hello::decode(&bytes), Err(HelloError::Version(9)));
        assert_eq!(Hello::decode(&bytes[..1]), Err(HelloError::Version(9)), "whatever follows");
        assert_eq!(Hello::decode(&[1]), Err(HelloError::Malformed));
    }

    #[test]
    fn names_are_dns_labels() {
        for (name, good) in [("hall-2", true), ("", false), ("-a", false), ("Hall", false), ("a.b", false)] {
            assert_eq!(is_node_name(name), good, "{name}");
            assert_eq!(Hello::decode(&payload(&hello(name))).is_ok(), good, "{name}");
        }
        assert!(!is_node_name(&"a".repeat(64)));
    }
}
