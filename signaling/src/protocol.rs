//! The two versions of LiveKit's signal protocol, by the path that a client opens. What differs is who offers:
//! on `/rtc/v1` a client has one connection and makes all offers; on `/rtc` (v0) it has a second one for what it
//! receives, on which the server makes them (see `receiver`).

use axum::extract::Query;
use axum::http::Uri;
use livekit_protocol::client_info::Sdk;
use livekit_protocol::{ClientInfo, ConnectionSettings, JoinRequest};
use serde::Deserialize;

use crate::limits::MAX_TOKEN_NAME_BYTES;

/// A version of the signal protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `/rtc`: a connection to send on and one to receive on.
    V0,
    /// `/rtc/v1`: one connection.
    #[default]
    V1,
}

/// What a client of v0 says in the query of its URL instead of a join request. Parameters that are not here
/// mean nothing to this server.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    reconnect: Option<String>,
    sid: Option<String>,
    auto_subscribe: Option<String>,
    adaptive_stream: Option<String>,
    sdk: Option<String>,
    version: Option<String>,
    protocol: Option<String>,
    client_protocol: Option<String>,
    device_model: Option<String>,
    os: Option<String>,
    os_version: Option<String>,
    browser: Option<String>,
    browser_version: Option<String>,
}

/// The query of `/rtc` as a join request. `None`: it cannot be read. What is missing, too long or no number is
/// left out; clients before `auto_subscribe` receive everything.
pub fn join_request(uri: &Uri) -> Option<JoinRequest> {
    let Query(said) = Query::<Parameters>::try_from_uri(uri).ok()?;
    let settings = ConnectionSettings {
        auto_subscribe: said.auto_subscribe.is_none_or(|value| is_true(&value)),
        adaptive_stream: said.adaptive_stream.is_some_and(|value| is_true(&value)),
        ..ConnectionSettings::default()
    };
    let client = ClientInfo {
        sdk: sdk(said.sdk.as_deref().unwrap_or_default()).into(),
        version: text(said.version),
        protocol: number(said.protocol),
        client_protocol: number(said.client_protocol),
        device_model: text(said.device_model),
        os: text(said.os),
        os_version: text(said.os_version),
        browser: text(said.browser),
        browser_version: text(said.browser_version),
        ..ClientInfo::default()
    };
    Some(JoinRequest {
        client_info: Some(client),
        connection_settings: Some(settings),
        reconnect: said.reconnect.is_some_and(|value| is_true(&value)),
        participant_sid: text(said.sid),
        ..JoinRequest::default()
    })
}

/// JavaScript writes 1, Go writes true.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true")
}

fn text(value: Option<String>) -> String {
    value.filter(|value| value.len() <= MAX_TOKEN_NAME_BYTES).unwrap_or_default()
}

fn number(value: Option<String>) -> i32 {
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// The SDKs' names for themselves.
fn sdk(name: &str) -> Sdk {
    match name {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        _ => Sdk::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> JoinRequest {
        join_request(&format!("/rtc?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn reads_what_real_clients_say() {
        let js = read(
            "access_token=a.b.c&auto_subscribe=1&sdk=js&version=2.23.0&protocol=16&client_protocol=1&\
             os=Linux&browser=Firefox&browser_version=153.0&adaptive_stream=1",
        );
        let (client, settings) = (js.client_info.unwrap(), js.connection_settings.unwrap());
        assert_eq!((client.sdk(), client.protocol, client.browser.as_str()), (Sdk::Js, 16, "Firefox"));
        assert!(settings.auto_subscribe && settings.adaptive_stream && !js.reconnect);

        let go = read("auto_subscribe=false&sdk=go&protocol=9&reconnect=1&sid=PA_x");
        assert!(!go.connection_settings.unwrap().auto_subscribe);
        assert_eq!((go.reconnect, go.participant_sid.as_str()), (true, "PA_x"));
    }

    #[test]
    fn what_is_missing_or_odd_is_left_out() {
        let bare = read("");
        assert!(bare.connection_settings.unwrap().auto_subscribe, "as before there was the parameter");
        let long = "x".repeat(MAX_TOKEN_NAME_BYTES + 1);
        let odd = read(&format!("sdk=abacus&protocol=many&os={long}&sid={long}&reconnect=perhaps"));
        let client = odd.client_info.unwrap();
        assert_eq!((client.sdk(), client.protocol, client.os.as_str()), (Sdk::Unknown, 0, ""));
        assert_eq!((odd.reconnect, odd.participant_sid.as_str()), (false, ""));
        assert_eq!(join_request(&"/rtc?os=a&os=b".parse().unwrap()), None, "which one?");
    }
}
