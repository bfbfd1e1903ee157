//! Frames: values on a byte stream.
//!
//! ```text
//! +----------------------+---------------------------+
//! | length, u32 BE       | postcard, `length` bytes  |
//! +----------------------+---------------------------+
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest frame that is read or written, bytes. The longest message is an offer or answer of about
/// [`MAX_SDP_BYTES`](crate::control::MAX_SDP_BYTES) with its tracks.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Why a frame could not be read or written. The stream cannot go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It would be longer than [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// It is not what was expected.
    #[error("a frame cannot be read")]
    Malformed,
}

/// Appends a value as a frame. `into` stays as it was if the value is too long.
pub fn encode<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = into.len();
    into.extend_from_slice(&[0; PREFIX]);
    // Memory has room for every value; what cannot be serialised has no length, and none of ours is such.
    let written = postcard::to_extend(value, Tail(into)).map_err(|_| FrameError::Malformed).map(drop);
    let length = into.len() - start - PREFIX;
    let result =
        written.and(if length > MAX_FRAME_BYTES { Err(FrameError::TooLong(length)) } else { Ok(()) });
    match result {
        Ok(()) => into[start..start + PREFIX].copy_from_slice(&(length as u32).to_be_bytes()),
        Err(_) => into.truncate(start),
    }
    result
}

/// Reads a whole payload as one value.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Malformed),
    }
}

/// Bytes of the length.
const PREFIX: usize = 4;

/// Lets postcard write behind what is there already.
struct Tail<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Tail<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// Cuts a byte stream into frames. Call [`Self::payload`] until it gives nothing after each [`Self::push`]: then no
/// more than one frame and what was pushed last is ever kept.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Takes bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.read));
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame's payload. `None`: it has not come as a whole.
    pub fn payload(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.buffer[self.read..];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        self.read += PREFIX + length;
        Ok(Some(payload))
    }

    /// The next value. `None`: it has not come as a whole.
    pub fn value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        self.payload()?.map(decode).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let values = ["", "a", "a longer one"].map(str::to_owned);
        let mut stream = Vec::new();
        for value in &values {
            encode(value, &mut stream).unwrap();
        }
        for size in 1..stream.len() {
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for part in stream.chunks(size) {
                decoder.push(part);
                while let Some(value) = decoder.value::<String>().unwrap() {
                    read.push(value);
                }
            }
            assert_eq!(read, values, "in parts of {size}");
        }
    }

    #[test]
    fn what_is_too_long_or_something_else_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&(MAX_FRAME_BYTES as u32 + 1).to_be_bytes());
        assert_eq!(decoder.value::<u64>(), Err(FrameError::TooLong(MAX_FRAME_BYTES + 1)));
        assert_eq!(decode::<u64>(&[1, 2]), Err(FrameError::Malformed), "bytes behind the value");
        assert_eq!(decode::<bool>(&[7]), Err(FrameError::Malformed));

        let mut stream = vec![9];
        let long = vec![0u8; MAX_FRAME_BYTES];
        assert_eq!(encode(&long, &mut stream), Err(FrameError::TooLong(MAX_FRAME_BYTES + 3)));
        assert_eq!(stream, [9], "nothing was written");
    }
}
