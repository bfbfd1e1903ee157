//! Who a participant is and what it may do: from its token, and from itself where the token lets it.

use std::collections::HashMap;

use livekit_protocol::request_response::Reason;
use livekit_protocol::{
    ClientInfo, JoinRequest, ParticipantPermission, TrackSource, UpdateParticipantMetadata, participant_info,
};

use crate::auth::{Claims, VideoGrant};
use crate::lessons::{LINK, RESERVED_PREFIX, SCHOOL};
use crate::limits::{MAX_ATTRIBUTES, MAX_METADATA_BYTES, MAX_TOKEN_NAME_BYTES};
use crate::track::{Refused, token_name};

/// A participant's identity, texts, grants and client.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) grant: VideoGrant,
    pub(crate) kind: participant_info::Kind,
    client: ClientInfo,
}

impl Profile {
    /// From a verified token and what the client says of itself. None: a text is too long.
    pub(crate) fn new(claims: Claims, request: &mut JoinRequest) -> Option<Self> {
        let kind = participant_info::Kind::from_str_name(&claims.kind.to_ascii_uppercase());
        let mut profile = Self {
            identity: claims.sub,
            name: claims.name,
            metadata: claims.metadata,
            attributes: claims.attributes,
            grant: claims.video.unwrap_or_default(),
            kind: kind.unwrap_or(participant_info::Kind::Standard),
            client: request.client_info.take().unwrap_or_default(),
        };
        if profile.identity.len() > MAX_TOKEN_NAME_BYTES || !profile.fits() {
            return None;
        }
        // Without the permission, or beyond the limits, the client's own words are left out, as with LiveKit.
        let own = UpdateParticipantMetadata {
            metadata: std::mem::take(&mut request.metadata),
            attributes: std::mem::take(&mut request.participant_attributes),
            ..UpdateParticipantMetadata::default()
        };
        profile.update(&own).ok();
        Some(profile)
    }

    /// What the participant itself wants changed. Empty texts stay as they are; an empty attribute is removed;
    /// those that Lectern reads come from the token alone and are passed over.
    pub(crate) fn update(&mut self, update: &UpdateParticipantMetadata) -> Result<(), Refused> {
        if !self.grant.may_update_own_metadata() {
            return Err(Refused(
                Reason::NotAllowed,
                "the access token does not allow to update own metadata",
            ));
        }
        let mut attributes = self.attributes.clone();
        for (name, value) in &update.attributes {
            if name.starts_with(RESERVED_PREFIX) {
                continue;
            }
            if value.is_empty() {
                attributes.remove(name);
            } else {
                attributes.insert(name.clone(), value.clone());
            }
        }
        let pick = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        let changed = Texts {
            name: &pick(&update.name, &self.name),
            metadata: &pick(&update.metadata, &self.metadata),
            attributes: &attributes,
        };
        if !changed.fit() {
            return Err(Refused(Reason::LimitExceeded, "name, metadata or attributes are too long"));
        }
        (self.name, self.metadata) = (changed.name.clone(), changed.metadata.clone());
        self.attributes = attributes;
        Ok(())
    }

    /// The access line that this participant shares with others. None: its own.
    pub(crate) fn link(&self) -> Option<&str> {
        self.attributes.get(LINK).or_else(|| self.attributes.get(SCHOOL)).map(String::as_str)
    }

    /// Whether the client takes a remote track's id from its stream's id, so that each track needs its own.
    pub(crate) fn needs_stream_per_track(&self) -> bool {
        self.client.browser.eq_ignore_ascii_case("firefox")
    }

    /// The version of the client side of the protocol, passed on to the others.
    pub(crate) fn client_protocol(&self) -> i32 {
        self.client.client_protocol
    }

    /// What the client said it can do, passed on to the others.
    pub(crate) fn capabilities(&self) -> Vec<i32> {
        self.client.capabilities.iter().copied().take(MAX_ATTRIBUTES).collect()
    }

    #[expect(deprecated, reason = "older clients read `recorder` and `agent` here")]
    pub(crate) fn permission(&self) -> ParticipantPermission {
        let named = [
            TrackSource::Camera,
            TrackSource::Microphone,
            TrackSource::ScreenShare,
            TrackSource::ScreenShareAudio,
        ];
        // An empty list means all, on the wire too.
        let listed = |source: &TrackSource| {
            self.grant.can_publish_sources.iter().any(|name| name == token_name(*source))
        };
        ParticipantPermission {
            can_subscribe: self.grant.may_subscribe(),
            can_publish: self.grant.may_publish(),
            can_publish_data: self.grant.may_publish_data(),
            can_publish_sources: named.iter().filter(|source| listed(source)).map(|s| (*s).into()).collect(),
            hidden: self.grant.hidden,
            recorder: self.grant.recorder,
            can_update_metadata: self.grant.may_update_own_metadata(),
            agent: self.grant.agent,
            ..ParticipantPermission::default()
        }
    }

    fn fits(&self) -> bool {
        Texts { name: &self.name, metadata: &self.metadata, attributes: &self.attributes }.fit()
    }
}

struct Texts<'a> {
    name: &'a String,
    metadata: &'a String,
    attributes: &'a HashMap<String, String>,
}

impl Texts<'_> {
    fn fit(&self) -> bool {
        let attributes: usize = self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.name.len() <= MAX_TOKEN_NAME_BYTES
            && self.metadata.len() <= MAX_METADATA_BYTES
            && attributes <= MAX_METADATA_BYTES
            && self.attributes.len() <= MAX_ATTRIBUTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(may_update: bool) -> Profile {
        let claims = Claims {
            sub: "ana".into(),
            name: "Ana".into(),
            attributes: HashMap::from([
                ("lectern.school".into(), "Hill".into()),
                ("hand".into(), "up".into()),
            ]),
            video: Some(VideoGrant { can_update_own_metadata: Some(may_update), ..VideoGrant::default() }),
            ..Claims::default()
        };
        Profile::new(claims, &mut JoinRequest::default()).unwrap()
    }

    fn set(name: &str, value: &str) -> UpdateParticipantMetadata {
        UpdateParticipantMetadata {
            attributes: HashMap::from([(name.to_owned(), value.to_owned())]),
            ..UpdateParticipantMetadata::default()
        }
    }

    #[test]
    fn own_updates_change_all_but_what_the_token_alone_says() {
        let mut ana = profile(true);
        ana.update(&set("lectern.school", "Valley")).unwrap();
        ana.update(&set("hand", "")).unwrap();
        ana.update(&set("mood", "fine")).unwrap();
        assert_eq!(ana.attributes.get("mood").map(String::as_str), Some("fine"));
        assert_eq!((ana.attributes.get("hand"), ana.link()), (None, Some("Hill")));
        assert_eq!(ana.name, "Ana", "an empty text changes nothing");
    }

    #[test]
    fn own_updates_need_the_grant_and_have_limits() {
        assert_eq!(profile(false).update(&set("a", "b")).unwrap_err().0, Reason::NotAllowed);
        let mut ana = profile(true);
        let long = UpdateParticipantMetadata { metadata: "m".repeat(16 * 1024 + 1), ..Default::default() };
        assert_eq!(ana.update(&long).unwrap_err().0, Reason::LimitExceeded);
        assert_eq!(ana.update(&set("a", &"b".repeat(16 * 1024))).unwrap_err().0, Reason::LimitExceeded);
        assert_eq!(ana.metadata, "", "a refused update changes nothing");
    }
}
