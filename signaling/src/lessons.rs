//! Lessons: links that invite to a room, and the roles they give.
//!
//! A link carries an *invitation*: a signed token that names the lesson, a role and perhaps a school. Several
//! devices may open one link, so an invitation is no access token: each device exchanges it, together with the
//! name its people chose, for an access token with an identity of its own. Nothing is stored: a lesson's room
//! opens when the first one joins.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::{self, AuthError, Claims, VideoGrant};
use crate::keys::{Keys, random_text};

/// Token attribute: the participant's [`Role`].
pub const ROLE: &str = "lectern.role";
/// Token attribute: the participant's school.
pub const SCHOOL: &str = "lectern.school";
/// Token attribute: the shared access line, by default the school.
pub const LINK: &str = "lectern.link";
/// Attributes with this prefix come from the signed token alone.
pub const RESERVED_PREFIX: &str = "lectern.";

/// Longest name of a lesson or person, characters.
pub const MAX_NAME_CHARS: usize = 80;
/// Longest name of a school, characters. It labels metrics.
pub const MAX_SCHOOL_CHARS: usize = 64;
/// Most schools that one request may make links for.
pub const MAX_SCHOOLS: usize = 64;

/// How long a joining device may come back with its access token: a long school day.
const ACCESS_TTL: Duration = Duration::from_secs(12 * 3600);

/// What tells an invitation from an access token signed with the same key.
const AUDIENCE: &str = "lectern-invitation";

/// The part a participant plays in a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads the lesson.
    Teacher,
    /// A whole class in its room.
    Class,
    /// A single pupil.
    Pupil,
    /// Watches and listens only.
    Viewer,
}

impl Role {
    /// The value of the attribute [`ROLE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Class => "class",
            Self::Pupil => "pupil",
            Self::Viewer => "viewer",
        }
    }

    fn grant(self, room: String) -> VideoGrant {
        let takes_part = self != Self::Viewer;
        VideoGrant {
            room_join: true,
            room,
            room_admin: self == Self::Teacher,
            can_publish: Some(takes_part),
            can_publish_data: Some(takes_part),
            can_subscribe: Some(true),
            can_update_own_metadata: Some(takes_part),
            ..VideoGrant::default()
        }
    }
}

/// The claims of an invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    iss: String,
    aud: String,
    /// Not valid after, seconds since 1970.
    pub exp: u64,
    /// The room's name.
    pub room: String,
    /// The lesson's name, as people know it.
    pub lesson: String,
    /// The role it gives.
    pub role: Role,
    /// The school it is for. None: whoever joins names the school.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub school: Option<String>,
}

/// A lesson that has links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// The room's name: random, as a room must not be guessed.
    pub room: String,
    /// The lesson's name, as people know it.
    pub name: String,
    /// When its links end, seconds since 1970.
    pub expires: u64,
}

/// What a device gets for its invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The access token.
    pub token: String,
    /// The identity in it, fresh for each device.
    pub identity: String,
    /// The invitation.
    pub invitation: Invitation,
    /// The school, from the invitation, else as named by who joins.
    pub school: Option<String>,
}

/// Why a lesson or an access token was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LessonError {
    /// The invitation is no good.
    #[error("{0}")]
    Auth(#[from] AuthError),
    /// A name is missing, too long or holds control characters.
    #[error("a name must have 1 to {MAX_NAME_CHARS} characters")]
    Name,
    /// A school's name is empty, too long or holds control characters, or there are too many.
    #[error("at most {MAX_SCHOOLS} schools, each with a name of 1 to {MAX_SCHOOL_CHARS} characters")]
    School,
}

impl Lesson {
    /// A new lesson; its links are valid for `ttl`. `unix_now` is in seconds.
    pub fn new(name: &str, unix_now: u64, ttl: Duration) -> Result<Self, LessonError> {
        Ok(Self {
            room: format!("lesson-{}", random_text::<12>()),
            name: checked(name, MAX_NAME_CHARS).ok_or(LessonError::Name)?,
            expires: unix_now + ttl.as_secs(),
        })
    }

    /// A signed invitation to this lesson.
    pub fn invitation(&self, keys: &Keys, role: Role, school: Option<&str>) -> Result<String, LessonError> {
        let school =
            school.map(|school| checked(school, MAX_SCHOOL_CHARS).ok_or(LessonError::School)).transpose()?;
        Ok(auth::sign(keys, |issuer| Invitation {
            iss: issuer.to_owned(),
            aud: AUDIENCE.to_owned(),
            exp: self.expires,
            room: self.room.clone(),
            lesson: self.name.clone(),
            role,
            school,
        }))
    }
}

/// Exchanges an invitation for an access token. A school in the invitation goes before the one named here.
pub fn admit(
    keys: &Keys,
    invitation: &str,
    name: &str,
    school: Option<&str>,
    unix_now: u64,
) -> Result<Admitted, LessonError> {
    let invitation: Invitation = auth::verify(keys, invitation, Some(AUDIENCE))?;
    let name = checked(name, MAX_NAME_CHARS).ok_or(LessonError::Name)?;
    let school = match (&invitation.school, school) {
        (Some(school), _) => Some(school.clone()),
        (None, Some(school)) if !school.trim().is_empty() => {
            Some(checked(school, MAX_SCHOOL_CHARS).ok_or(LessonError::School)?)
        }
        (None, _) => None,
    };
    let identity = format!("{}-{}", invitation.role.as_str(), random_text::<9>());
    let mut attributes = HashMap::from([(ROLE.to_owned(), invitation.role.as_str().to_owned())]);
    if let Some(school) = &school {
        attributes.insert(SCHOOL.to_owned(), school.clone());
    }
    let token = auth::sign(keys, |issuer| Claims {
        iss: issuer.to_owned(),
        sub: identity.clone(),
        nbf: unix_now,
        exp: unix_now + ACCESS_TTL.as_secs(),
        name,
        attributes,
        video: Some(invitation.role.grant(invitation.room.clone())),
        ..Claims::default()
    });
    Ok(Admitted { token, identity, invitation, school })
}

/// The trimmed text if it is neither empty nor longer than `max` characters and has no control characters.
fn checked(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 3_900_000_000;

    fn keys() -> Keys {
        Keys::parse("k: secret").unwrap()
    }

    fn lesson() -> Lesson {
        Lesson::new(" Algebra ", NOW, Duration::from_secs(3600)).unwrap()
    }

    #[test]
    fn each_device_gets_its_own_identity_in_the_same_room() {
        let link = lesson().invitation(&keys(), Role::Class, Some("Hill school")).unwrap();
        let one = admit(&keys(), &link, "Class 3", Some("another school"), NOW).unwrap();
        let two = admit(&keys(), &link, "Class 3", None, NOW).unwrap();
        assert_ne!(one.identity, two.identity);
        assert_eq!(one.school.as_deref(), Some("Hill school"), "the signed school wins");
        assert_eq!(one.invitation.lesson, "Algebra");

        let claims: Claims = jsonwebtoken::decode::<Claims>(
            &one.token,
            &jsonwebtoken::DecodingKey::from_secret(b"secret"),
            &jsonwebtoken::Validation::default(),
        )
        .unwrap()
        .claims;
        assert_eq!(claims.attributes[ROLE], "class");
        assert_eq!(claims.attributes[SCHOOL], "Hill school");
        assert_eq!(claims.video.unwrap().room, one.invitation.room);
    }

    #[test]
    fn an_invitation_is_no_access_token_and_an_access_token_no_invitation() {
        let link = lesson().invitation(&keys(), Role::Teacher, None).unwrap();
        assert_eq!(auth::verify_join(&keys(), &link), Err(AuthError::NotGranted));
        let access = admit(&keys(), &link, "Ana", None, crate::clock::unix_seconds()).unwrap().token;
        assert!(auth::verify_join(&keys(), &access).is_ok());
        assert_eq!(admit(&keys(), &access, "Ana", None, NOW), Err(AuthError::NotGranted.into()));
    }

    #[test]
    fn a_viewer_sends_nothing() {
        let grant = Role::Viewer.grant("r".into());
        assert!(!grant.may_publish() && !grant.may_publish_data() && grant.may_subscribe());
    }

    #[test]
    fn names_are_bounded() {
        let link = lesson().invitation(&keys(), Role::Pupil, None).unwrap();
        for name in ["", "  ", "a\nb", &"x".repeat(81)] {
            assert_eq!(admit(&keys(), &link, name, None, NOW), Err(LessonError::Name), "{name:?}");
        }
        assert_eq!(admit(&keys(), &link, "Ana", Some(&"x".repeat(65)), NOW), Err(LessonError::School));
        assert_eq!(admit(&keys(), &link, "Ana", Some(" "), NOW).unwrap().school, None);
    }
}
