//! Lectern's own requests, for its page and for scripts: make a lesson, exchange an invitation for a token.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::auth::{self, AuthError};
use crate::clock;
use crate::lessons::{self, Lesson, LessonError, MAX_SCHOOLS, Role};
use crate::server::{AppState, Origin, bearer};

/// The body of `POST /api/lessons`; all of it is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewLesson {
    name: Option<String>,
    schools: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LessonLinks {
    room: String,
    name: String,
    /// Seconds since 1970.
    expires: u64,
    teacher: String,
    class: String,
    viewer: String,
    /// One link for each school that was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schools: Vec<SchoolLink>,
}

#[derive(Debug, Serialize)]
struct SchoolLink {
    school: String,
    class: String,
}

/// The body of `POST /api/join`.
#[derive(Debug, Deserialize)]
pub(crate) struct Join {
    invitation: String,
    name: String,
    #[serde(default)]
    school: Option<String>,
}

#[derive(Debug, Serialize)]
struct Joined {
    token: String,
    identity: String,
    room: String,
    lesson: String,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    school: Option<String>,
}

/// What a lesson is called when nobody named it.
const DEFAULT_NAME: &str = "Lesson";

/// `POST /api/lessons`: makes a lesson and its links.
pub(crate) async fn make_lesson(
    State(state): State<AppState>,
    origin: Origin,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, ApiError> {
    if !state.open_lessons {
        auth::verify_room_create(&state.keys, bearer(&headers).ok_or(AuthError::Missing)?)?;
    }
    let asked: NewLesson = match body.is_empty() {
        true => NewLesson::default(),
        false => serde_json::from_slice(&body).map_err(|_| ApiError::Body)?,
    };
    if asked.schools.len() > MAX_SCHOOLS {
        return Err(LessonError::School.into());
    }
    let name = asked.name.as_deref().unwrap_or(DEFAULT_NAME);
    let lesson = Lesson::new(name, clock::unix_seconds(), state.lesson_ttl)?;
    let link = |role, school| -> Result<String, LessonError> {
        Ok(origin.invitation_link(&lesson.invitation(&state.keys, role, school)?))
    };
    let schools = asked.schools.iter().map(|school| {
        Ok(SchoolLink { school: school.trim().to_owned(), class: link(Role::Class, Some(school))? })
    });
    let links = LessonLinks {
        schools: schools.collect::<Result<_, LessonError>>()?,
        teacher: link(Role::Teacher, None)?,
        class: link(Role::Class, None)?,
        viewer: link(Role::Viewer, None)?,
        room: lesson.room,
        name: lesson.name,
        expires: lesson.expires,
    };
    Ok((StatusCode::CREATED, NO_STORE, Json(links)).into_response())
}

/// `POST /api/join`: exchanges an invitation for an access token with an identity of its own.
pub(crate) async fn join(
    State(state): State<AppState>,
    body: axum::body::Bytes,
) -> Result<Response, ApiError> {
    let join: Join = serde_json::from_slice(&body).map_err(|_| ApiError::Body)?;
    let now = clock::unix_seconds();
    let admitted = lessons::admit(&state.keys, &join.invitation, &join.name, join.school.as_deref(), now)
        .inspect_err(|error| {
            if let LessonError::Auth(error) = error {
                state.metrics.refused.with_label_values(&[error.label()]).inc();
            }
        })?;
    let joined = Joined {
        token: admitted.token,
        identity: admitted.identity,
        room: admitted.invitation.room,
        lesson: admitted.invitation.lesson,
        role: admitted.invitation.role,
        school: admitted.school,
    };
    Ok((NO_STORE, Json(joined)).into_response())
}

/// Tokens stay out of caches.
const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

impl Origin {
    /// The invitation is in the fragment: browsers send that to no server, so it is in no log.
    fn invitation_link(&self, invitation: &str) -> String {
        format!("{}/lesson#invitation={invitation}", self.0)
    }
}

/// Why a request was refused, as JSON `{"error": ..}`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Lesson(LessonError),
    #[error("the body is not the JSON that this request takes")]
    Body,
}

impl From<LessonError> for ApiError {
    fn from(error: LessonError) -> Self {
        match error {
            LessonError::Auth(error) => Self::Auth(error),
            error => Self::Lesson(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Auth(_) => StatusCode::UNAUTHORIZED,
            Self::Lesson(_) | Self::Body => StatusCode::BAD_REQUEST,
        };
        (status, Json(serde_json::json!({ "error": self.to_string() }))).into_response()
    }
}
