//! The two messages of the Data Channel Establishment Protocol (RFC 8832). Read here rather than by
//! `rtc::datachannel`, which wraps them in a data channel of its own, with buffers and no bounds.
//!
//! ```text
//!  OPEN  | 3 | channel type | priority (2 B) | reliability parameter (4 B) | label length (2 B)
//!        | protocol length (2 B) | label | protocol |
//!  ACK   | 2 |
//! ```

use std::time::Duration;

use thiserror::Error;

/// Longest label that we keep, bytes. LiveKit's are `_reliable` and `_lossy`.
pub(super) const MAX_LABEL: usize = 64;

/// The answer to an OPEN.
pub(super) const ACK: [u8; 1] = [2];

const OPEN: u8 = 3;
const OPEN_HEADER: usize = 12;
const UNORDERED: u8 = 0x80;

/// A message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dcep<'a> {
    Open(Open<'a>),
    Ack,
}

/// A request to use a stream as a data channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open<'a> {
    pub(super) label: &'a str,
    pub(super) ordered: bool,
    pub(super) reliability: Reliability,
}

/// How hard a message is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reliability {
    /// Until it came.
    Full,
    /// With so many repetitions.
    Retransmits(u32),
    /// For so long.
    Lifetime(Duration),
}

/// Why a message is not one of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum DcepError {
    /// Neither an OPEN nor an ACK.
    #[error("unknown message type")]
    MessageType,
    /// A channel type that RFC 8832 does not define.
    #[error("unknown channel type")]
    ChannelType,
    /// The lengths are not those of the message.
    #[error("wrong length")]
    Length,
    /// The label is longer than we keep, or is not UTF-8.
    #[error("unusable label")]
    Label,
}

impl<'a> Dcep<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, DcepError> {
        match *message.first().ok_or(DcepError::Length)? {
            OPEN => Open::parse(message).map(Self::Open),
            kind if kind == ACK[0] && message.len() == ACK.len() => Ok(Self::Ack),
            kind if kind == ACK[0] => Err(DcepError::Length),
            _ => Err(DcepError::MessageType),
        }
    }
}

impl<'a> Open<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, DcepError> {
        let (header, names) = message.split_first_chunk::<OPEN_HEADER>().ok_or(DcepError::Length)?;
        let [_, channel, _, _, p3, p2, p1, p0, label_high, label_low, protocol_high, protocol_low] = *header;
        let label_len = usize::from(u16::from_be_bytes([label_high, label_low]));
        let protocol_len = usize::from(u16::from_be_bytes([protocol_high, protocol_low]));
        if names.len() != label_len + protocol_len {
            return Err(DcepError::Length);
        }
        let parameter = u32::from_be_bytes([p3, p2, p1, p0]);
        let reliability = match channel & !UNORDERED {
            0 => Reliability::Full,
            1 => Reliability::Retransmits(parameter),
            2 => Reliability::Lifetime(Duration::from_millis(parameter.into())),
            _ => return Err(DcepError::ChannelType),
        };
        let label = std::str::from_utf8(&names[..label_len]).map_err(|_| DcepError::Label)?;
        if label.len() > MAX_LABEL {
            return Err(DcepError::Label);
        }
        Ok(Self { label, ordered: channel & UNORDERED == 0, reliability })
    }

    /// The message that asks for this channel.
    pub(super) fn write(&self) -> Vec<u8> {
        let (kind, parameter) = match self.reliability {
            Reliability::Full => (0, 0),
            Reliability::Retransmits(count) => (1, count),
            Reliability::Lifetime(lifetime) => (2, u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX)),
        };
        let mut message = vec![OPEN, kind | if self.ordered { 0 } else { UNORDERED }, 0, 0];
        message.extend_from_slice(&parameter.to_be_bytes());
        message.extend_from_slice(&(self.label.len() as u16).to_be_bytes());
        message.extend_from_slice(&[0, 0]);
        message.extend_from_slice(self.label.as_bytes());
        message
    }
}

/// Feeds arbitrary bytes; what is read as an OPEN means the same when written and read again.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    if let Ok(Dcep::Open(open)) = Dcep::parse(data) {
        assert!(open.label.len() <= MAX_LABEL);
        assert_eq!(Dcep::parse(&open.write()), Ok(Dcep::Open(open)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_type_is_read_as_it_was_written() {
        for reliability in [
            Reliability::Full,
            Reliability::Retransmits(3),
            Reliability::Lifetime(Duration::from_millis(500)),
        ] {
            for ordered in [true, false] {
                let open = Open { label: "_lossy", ordered, reliability };
                assert_eq!(Dcep::parse(&open.write()), Ok(Dcep::Open(open)));
            }
        }
        assert_eq!(Dcep::parse(&ACK), Ok(Dcep::Ack));
    }

    #[test]
    fn a_protocol_after_the_label_is_passed_over() {
        let mut message = Open { label: "a", ordered: true, reliability: Reliability::Full }.write();
        message[11] = 3;
        message.extend_from_slice(b"xyz");
        assert!(matches!(Dcep::parse(&message), Ok(Dcep::Open(Open { label: "a", .. }))));
    }

    #[test]
    fn what_is_no_message_is_named() {
        let good = Open { label: "label", ordered: true, reliability: Reliability::Full }.write();
        let with = |at: usize, value: u8| {
            let mut message = good.clone();
            message[at] = value;
            message
        };
        let long = "x".repeat(MAX_LABEL + 1);
        for (message, error) in [
            (vec![], DcepError::Length),
            (vec![2, 0], DcepError::Length),
            (vec![1], DcepError::MessageType),
            (with(1, 3), DcepError::ChannelType),
            (with(9, 4), DcepError::Length),
            (with(9, 6), DcepError::Length),
            (with(12, 0xFF), DcepError::Label),
            (Open { label: &long, ordered: true, reliability: Reliability::Full }.write(), DcepError::Label),
        ] {
            assert_eq!(Dcep::parse(&message), Err(error), "{message:?}");
        }
        for len in 0..good.len() {
            assert!(Dcep::parse(&good[..len]).is_err());
        }
    }
}
