//! Reading attributes, with the `rtc` crate's parser underneath.

use std::io::Cursor;

use rtc::sdp::SessionDescription;
use rtc::sdp::description::common::Attribute;
use sfu_protocol::control::MAX_SDP_BYTES;

use super::error::SdpError;
use super::offer::MAX_LINES;

/// Parses a description within our bounds.
pub(super) fn parse(sdp: &str) -> Result<SessionDescription, SdpError> {
    if sdp.len() > MAX_SDP_BYTES {
        return Err(SdpError::TooLong);
    }
    if sdp.lines().filter(|line| line.starts_with("m=")).count() > MAX_LINES {
        return Err(SdpError::TooManyLines);
    }
    SessionDescription::unmarshal(&mut Cursor::new(sdp))
        .map_err(|error| SdpError::Syntax(error.to_string().chars().take(120).collect()))
}

/// Every value of an attribute that has one.
pub(super) fn values<'a>(attributes: &'a [Attribute], key: &'static str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref()).map(str::trim)
}

/// The first value of an attribute.
pub(super) fn value<'a>(attributes: &'a [Attribute], key: &'static str) -> Option<&'a str> {
    values(attributes, key).next()
}

/// Whether an attribute is there, with or without a value.
pub(super) fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key == key)
}

/// The only m-section of `text`, for tests.
#[cfg(test)]
pub(super) fn parse_media(text: &str) -> rtc::sdp::MediaDescription {
    let sdp = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{text}");
    parse(&sdp).expect("the test's text is SDP").media_descriptions.remove(0)
}
