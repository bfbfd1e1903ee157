//! The HTTP routes: LiveKit's signal paths, the page and its requests, health and metrics.
//!
//! URLs hold access tokens, so no URL is ever logged.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use livekit_protocol::JoinRequest;
use serde::Deserialize;
use tracing::info;

use crate::auth::{self, AuthError, Claims};
use crate::config::PublicUrl;
use crate::keys::Keys;
use crate::limits::MAX_SIGNAL_BYTES;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::protocol::{self, Protocol};
use crate::service::Service;
use crate::wire::{self, WireError};
use crate::{api, client};

/// Largest body of Lectern's own requests, bytes: the names of [`crate::lessons::MAX_SCHOOLS`] schools.
const MAX_BODY_BYTES: usize = 32 * 1024;

/// What all requests share.
#[derive(Clone)]
pub struct AppState {
    /// Moves the clients' messages.
    pub service: Service,
    /// Signs and verifies tokens.
    pub keys: Arc<Keys>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The classroom page.
    pub page: Arc<Page>,
    /// Whether anyone may make a lesson; otherwise a token with `roomCreate` is needed.
    pub open_lessons: bool,
    /// What the links of a lesson begin with, where that is configured.
    pub public_url: Option<PublicUrl>,
    /// How long the links of a lesson last.
    pub lesson_ttl: Duration,
    /// A request must be read and answered within this time.
    pub request_timeout: Duration,
    /// Metrics of what else runs in this process, in Prometheus' text form.
    pub further_metrics: Option<FurtherMetrics>,
    /// Whether new participants are welcome: false while the server stops.
    pub ready: Arc<std::sync::atomic::AtomicBool>,
}

/// Renders metrics in Prometheus' text form; others may have to be asked for theirs.
pub type FurtherMetrics = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// All routes.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/rtc/v1", get(signal_v1))
        .route("/rtc", get(signal_v0))
        .route("/rtc/v1/validate", get(validate_v1))
        .route("/rtc/validate", get(validate_v0))
        .route("/api/lessons", post(api::make_lesson))
        .route("/api/join", post(api::join))
        .route("/", get(index))
        .route("/lesson", get(index))
        .route("/assets/{name}", get(asset))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), in_time))
        .with_state(state)
}

/// Gives up on a client that sends its request's body too slowly.
async fn in_time(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(state.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            state.metrics.refused.with_label_values(&["too_slow"]).inc();
            (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response()
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct SignalQuery {
    access_token: Option<String>,
    join_request: Option<String>,
}

/// `GET /rtc/v1`: a client joins. What is wrong with the request is answered before the upgrade; from then on
/// refusals are signal messages.
async fn signal_v1(
    State(state): State<AppState>,
    query: Result<Query<SignalQuery>, QueryRejection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let admitted = |state: &AppState| door(state, query, &headers);
    admit(state, upgrade, Protocol::V1, admitted)
}

/// `GET /rtc`: the same for the older protocol.
async fn signal_v0(
    State(state): State<AppState>,
    query: Result<Query<SignalQuery>, QueryRejection>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let admitted = |state: &AppState| door_v0(state, query, &headers, &uri);
    admit(state, upgrade, Protocol::V0, admitted)
}

fn admit(
    state: AppState,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    protocol: Protocol,
    admitted: impl FnOnce(&AppState) -> Result<(Claims, JoinRequest), Refused>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        // LiveKit's answer; clients then ask the validate path what is wrong.
        return StatusCode::NOT_FOUND.into_response();
    };
    let (claims, request) = match admitted(&state) {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into_response(),
    };
    upgrade.max_message_size(MAX_SIGNAL_BYTES).max_frame_size(MAX_SIGNAL_BYTES).on_upgrade(
        async move |socket| {
            client::serve(socket, state.service, claims, request, protocol, &state.metrics).await;
        },
    )
}

/// `GET /rtc/v1/validate`: what would be wrong with a join.
async fn validate_v1(
    State(state): State<AppState>,
    query: Result<Query<SignalQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    match door(&state, query, &headers) {
        Ok(_) => (CORS, "success").into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// `GET /rtc/validate`: the same for the older protocol.
async fn validate_v0(
    State(state): State<AppState>,
    query: Result<Query<SignalQuery>, QueryRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    match door_v0(&state, query, &headers, &uri) {
        Ok(_) => (CORS, "success").into_response(),
        Err(refused) => refused.into_response(),
    }
}

fn door(
    state: &AppState,
    query: Result<Query<SignalQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<(Claims, JoinRequest), Refused> {
    let Query(query) = query.map_err(|_| Refused::Query)?;
    let claims = verify(state, &query, headers)?;
    let parameter = query.join_request.as_deref().unwrap_or("");
    match wire::decode_join_request(parameter) {
        Ok(request) => Ok((claims, request)),
        Err(error) => {
            state.metrics.refused.with_label_values(&["join_request"]).inc();
            Err(Refused::Wire(error))
        }
    }
}

/// The older protocol has no join request: the query says it all.
fn door_v0(
    state: &AppState,
    query: Result<Query<SignalQuery>, QueryRejection>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(Claims, JoinRequest), Refused> {
    let Query(query) = query.map_err(|_| Refused::Query)?;
    let claims = verify(state, &query, headers)?;
    let request = protocol::join_request(uri).ok_or(Refused::Query)?;
    Ok((claims, request))
}

fn verify(state: &AppState, query: &SignalQuery, headers: &HeaderMap) -> Result<Claims, Refused> {
    let token = bearer(headers).or(query.access_token.as_deref()).unwrap_or("");
    auth::verify_join(&state.keys, token).map_err(|error| {
        info!(%error, "client refused");
        state.metrics.refused.with_label_values(&[error.label()]).inc();
        Refused::Auth(error)
    })
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

async fn index(State(state): State<AppState>, headers: HeaderMap) -> Response {
    state.page.index(&headers)
}

async fn asset(State(state): State<AppState>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    state.page.asset(&name, &headers)
}

async fn readyz(State(state): State<AppState>) -> Response {
    let serving = state.ready.load(std::sync::atomic::Ordering::Relaxed);
    match (serving, state.metrics.nodes.get()) {
        (true, 1..) => "ready\n".into_response(),
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "no SFU in reach\n").into_response(),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
    }
}

async fn metrics(State(state): State<AppState>) -> Response {
    let mut text = state.metrics.render();
    if let Some(further) = &state.further_metrics {
        text.push_str(&further().await);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Browsers ask the validate paths from pages of any origin; what protects is the token.
const CORS: [(header::HeaderName, HeaderValue); 1] =
    [(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))];

/// Why a client was not let in: its text is shown to the person there.
#[derive(Debug)]
enum Refused {
    Query,
    Auth(AuthError),
    Wire(WireError),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, words) = match self {
            Self::Query => (StatusCode::BAD_REQUEST, "the query cannot be read".to_owned()),
            Self::Auth(error) => (StatusCode::UNAUTHORIZED, error.to_string()),
            Self::Wire(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        };
        (status, CORS, words).into_response()
    }
}

/// What links for others begin with: the configured URL, else scheme, host and port by which the client has
/// reached this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) String);

/// Marks requests that came in over TLS.
#[derive(Clone, Copy, Debug)]
pub struct Secure;

impl FromRequestParts<AppState> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self::new(parts, state.public_url.as_ref()))
    }
}

impl Origin {
    fn new(request: &Parts, public_url: Option<&PublicUrl>) -> Self {
        if let Some(url) = public_url {
            return Self(url.as_str().to_owned());
        }
        let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        // A proxy in front that ends TLS says so.
        let proxied = text("x-forwarded-proto") == Some("https");
        let scheme = if proxied || request.extensions.get::<Secure>().is_some() { "https" } else { "http" };
        // A relative link is the best that a request without a host can have.
        Self(text("host").map_or_else(String::new, |host| format!("{scheme}://{host}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_with_the_configured_url_else_with_what_was_asked() {
        let request = |headers: &[(&str, &str)]| {
            let request = headers
                .iter()
                .fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
            request.body(axum::body::Body::empty()).unwrap().into_parts().0
        };
        let here = [("host", "10.0.0.7:7880")];
        let proxied = [("host", "school.example"), ("x-forwarded-proto", "https")];
        let url: PublicUrl = "https://lessons.example.org".parse().unwrap();
        for (headers, url, expected) in [
            (&here[..], None, "http://10.0.0.7:7880"),
            (&proxied[..], None, "https://school.example"),
            (&proxied[..], Some(&url), "https://lessons.example.org"),
            (&[], None, ""),
        ] {
            assert_eq!(Origin::new(&request(headers), url).0, expected);
        }
    }
}
