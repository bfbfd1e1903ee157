//! Access tokens as LiveKit's server SDKs make them: JWT (RFC 7519) signed with HS256.
//!
//! `iss` names the API key, `sub` the participant's identity, and the claim `video` says what it may do. An
//! absent `can*` grant is allowed, as with LiveKit; unknown claims are ignored. Which lesson a link invites to
//! is another kind of token: see [`crate::lessons`].

use std::collections::HashMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// Longest token that is read, bytes. A token is part of a URL; LiveKit's own are below 1 kB.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Clocks of the token's maker and ours may differ by this many seconds.
const LEEWAY_SECONDS: u64 = 10;

/// The claims of an access token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// The API key whose secret signed the token.
    pub iss: String,
    /// The participant's identity, unique in its room.
    pub sub: String,
    /// Not valid before, seconds since 1970. Zero: no limit.
    pub nbf: u64,
    /// Not valid after, seconds since 1970.
    pub exp: u64,
    /// The name that others see.
    pub name: String,
    /// Text for the application, passed on to the others.
    pub metadata: String,
    /// Named texts for the application. The names `lectern.*` are read by Lectern itself.
    pub attributes: HashMap<String, String>,
    /// The kind of participant: `standard`, `agent`, `egress` and so on. Empty means `standard`.
    pub kind: String,
    /// What the participant may do. None: nothing.
    pub video: Option<VideoGrant>,
}

/// What a participant may do in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May join `room`.
    pub room_join: bool,
    /// The room's name.
    pub room: String,
    /// May make rooms.
    pub room_create: bool,
    /// May manage `room`.
    pub room_admin: bool,
    /// May send tracks. Absent: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// May receive tracks. Absent: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// May send data messages. Absent: as `can_publish`, LiveKit's rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// The sources that it may send: `camera`, `microphone`, `screen_share`, `screen_share_audio`. Empty: all.
    pub can_publish_sources: Vec<String>,
    /// May change its own name, metadata and attributes. Absent: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Others do not see it.
    pub hidden: bool,
    /// Records the room.
    pub recorder: bool,
    /// Is a program that takes part.
    pub agent: bool,
}

impl VideoGrant {
    /// Whether it may send tracks.
    pub fn may_publish(&self) -> bool {
        self.can_publish.unwrap_or(true)
    }

    /// Whether it may receive tracks.
    pub fn may_subscribe(&self) -> bool {
        self.can_subscribe.unwrap_or(true)
    }

    /// Whether it may send data messages.
    pub fn may_publish_data(&self) -> bool {
        self.can_publish_data.unwrap_or_else(|| self.may_publish())
    }

    /// Whether it may send this source, in the token's spelling.
    pub fn may_publish_source(&self, source: &str) -> bool {
        self.may_publish()
            && (self.can_publish_sources.is_empty() || self.can_publish_sources.iter().any(|s| s == source))
    }

    /// Whether it may change its own name, metadata and attributes.
    pub fn may_update_own_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }
}

/// Why a token was refused. The text is shown to the person at the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There was none.
    #[error("no access token was given")]
    Missing,
    /// It is no token.
    #[error("this is not a readable access token")]
    Malformed,
    /// Its API key is not one of ours.
    #[error("the access token was made with a key that this server does not know")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the access token's signature is wrong: it was made with another secret")]
    WrongSignature,
    /// `exp` has passed.
    #[error("the access token has expired; ask for a new link")]
    Expired,
    /// `nbf` is ahead.
    #[error("the access token is not valid yet")]
    TooEarly,
    /// The token is fine but of another use, or grants something else.
    #[error("the access token does not allow this")]
    NotGranted,
}

impl AuthError {
    /// A short name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::WrongSignature => "wrong_signature",
            Self::Expired => "expired",
            Self::TooEarly => "too_early",
            Self::NotGranted => "not_granted",
        }
    }
}

/// Reads a token that allows to join a room: `roomJoin`, a room and an identity.
pub fn verify_join(keys: &Keys, token: &str) -> Result<Claims, AuthError> {
    let claims: Claims = verify(keys, token, None)?;
    match &claims.video {
        Some(video) if video.room_join && !video.room.is_empty() && !claims.sub.is_empty() => Ok(claims),
        _ => Err(AuthError::NotGranted),
    }
}

/// Reads a token that allows to make rooms.
pub fn verify_room_create(keys: &Keys, token: &str) -> Result<Claims, AuthError> {
    let claims: Claims = verify(keys, token, None)?;
    match &claims.video {
        Some(video) if video.room_create => Ok(claims),
        _ => Err(AuthError::NotGranted),
    }
}

/// Checks a token's signature, times and, where given, audience; returns its claims.
pub fn verify<C: DeserializeOwned>(keys: &Keys, token: &str, audience: Option<&str>) -> Result<C, AuthError> {
    if token.is_empty() {
        return Err(AuthError::Missing);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
    if header.alg != Algorithm::HS256 {
        return Err(AuthError::Malformed);
    }
    let issuer: Issuer =
        jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| AuthError::Malformed)?;
    let secret = keys.secret(&issuer.iss).ok_or(AuthError::UnknownKey)?;

    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    match audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.set_required_spec_claims(&["exp", "aud"]);
        }
        None => validation.validate_aud = false,
    }
    jsonwebtoken::decode(token, &DecodingKey::from_secret(secret.as_bytes()), &validation)
        .map(|data| data.claims)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => AuthError::WrongSignature,
            ErrorKind::ExpiredSignature => AuthError::Expired,
            ErrorKind::ImmatureSignature => AuthError::TooEarly,
            // Well signed, but made for another use.
            ErrorKind::InvalidAudience | ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
                AuthError::NotGranted
            }
            _ => AuthError::Malformed,
        })
}

/// Signs claims with the first of our keys; `make` receives that key's name for `iss`.
pub fn sign<C: Serialize>(keys: &Keys, make: impl FnOnce(&str) -> C) -> String {
    let (name, secret) = keys.first();
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &make(name),
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .expect("our own claims serialise to JSON, and HS256 takes any secret")
}

/// The one claim that is read before the signature is checked: it says which secret to check with.
#[derive(Deserialize)]
struct Issuer {
    #[serde(default)]
    iss: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FAR: u64 = 4_000_000_000;

    fn keys() -> Keys {
        Keys::parse("old: secret-one\nnew: secret-two").unwrap()
    }

    fn token(claims: &serde_json::Value, secret: &str) -> String {
        jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))
            .unwrap()
    }

    #[test]
    fn reads_what_livekit_sdks_write_and_ignores_the_rest() {
        let token = token(
            &json!({
                "iss": "new", "sub": "ana", "nbf": 1, "exp": FAR, "name": "Ana", "kind": "standard",
                "attributes": {"lectern.role": "teacher"}, "sip": {"admin": true}, "roomConfig": {"name": "x"},
                "video": {"roomJoin": true, "room": "algebra", "canPublish": false, "destinationRoom": "other"},
            }),
            "secret-two",
        );
        let claims = verify_join(&keys(), &token).unwrap();
        let video = claims.video.unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.name.as_str(), video.room.as_str()),
            ("ana", "Ana", "algebra")
        );
        assert_eq!(claims.attributes["lectern.role"], "teacher");
        assert_eq!(
            (video.may_publish(), video.may_publish_data(), video.may_subscribe()),
            (false, false, true)
        );
    }

    #[test]
    fn refuses_each_defect_with_its_own_reason() {
        let join = json!({"roomJoin": true, "room": "algebra"});
        let cases = [
            (json!({"iss": "new", "sub": "a", "exp": 1, "video": join}), "secret-two", AuthError::Expired),
            (
                json!({"iss": "new", "sub": "a", "exp": FAR, "nbf": FAR, "video": join}),
                "secret-two",
                AuthError::TooEarly,
            ),
            (
                json!({"iss": "new", "sub": "a", "exp": FAR, "video": join}),
                "secret-one",
                AuthError::WrongSignature,
            ),
            (
                json!({"iss": "who", "sub": "a", "exp": FAR, "video": join}),
                "secret-two",
                AuthError::UnknownKey,
            ),
            (json!({"iss": "new", "sub": "a", "exp": FAR}), "secret-two", AuthError::NotGranted),
            (
                json!({"iss": "new", "sub": "", "exp": FAR, "video": join}),
                "secret-two",
                AuthError::NotGranted,
            ),
            (json!({"iss": "new", "sub": "a", "video": join}), "secret-two", AuthError::NotGranted),
            (
                json!({"iss": "new", "sub": "a", "exp": FAR, "video": {"room": "x"}}),
                "secret-two",
                AuthError::NotGranted,
            ),
        ];
        for (claims, secret, expected) in cases {
            assert_eq!(verify_join(&keys(), &token(&claims, secret)), Err(expected), "{claims}");
        }
        assert_eq!(verify_join(&keys(), ""), Err(AuthError::Missing));
        assert_eq!(verify_join(&keys(), "a.b.c"), Err(AuthError::Malformed));
    }

    #[test]
    fn refuses_an_unsigned_token_and_other_algorithms() {
        let none = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJuZXciLCJzdWIiOiJhIiwiZXhwIjo0MDAwMDAwMDAwfQ.";
        assert_eq!(verify_join(&keys(), none), Err(AuthError::Malformed));
        let claims = json!({"iss": "new", "sub": "a", "exp": FAR, "video": {"roomJoin": true, "room": "x"}});
        let hs512 = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &claims,
            &EncodingKey::from_secret(b"secret-two"),
        );
        assert_eq!(verify_join(&keys(), &hs512.unwrap()), Err(AuthError::Malformed));
    }

    #[test]
    fn limits_sources_only_where_the_token_names_some() {
        let all = VideoGrant::default();
        let camera = VideoGrant { can_publish_sources: vec!["camera".into()], ..VideoGrant::default() };
        let none = VideoGrant { can_publish: Some(false), ..VideoGrant::default() };
        assert!(all.may_publish_source("screen_share"));
        assert!(camera.may_publish_source("camera") && !camera.may_publish_source("screen_share"));
        assert!(!none.may_publish_source("camera"));
    }
}
