//! The page's requests, the validate paths, health and metrics.

use livekit_protocol::JoinRequest;
use serde_json::{Value, json};
use signaling::auth::{self, VideoGrant};
use signaling::limits::Limits;

use crate::support::{Server, encode_join_request, join_request};

#[tokio::test]
async fn the_validate_paths_say_what_a_join_would() {
    let server = Server::start().await;
    let token = server.token("ana", "algebra");
    let join_request = encode_join_request(&JoinRequest::default());
    let cases = [
        (format!("/rtc/v1/validate?access_token={token}&join_request={join_request}"), "200", "success"),
        (format!("/rtc/v1/validate?access_token={token}"), "400", "join_request is required"),
        (format!("/rtc/v1/validate?access_token={token}&join_request=%20"), "400", "base64url"),
        ("/rtc/v1/validate".to_owned(), "401", "no access token"),
        (format!("/rtc/validate?access_token={token}"), "200", "success"),
        ("/rtc/validate?access_token=x".to_owned(), "401", "readable"),
    ];
    for (path, status, words) in cases {
        let (head, body) = server.http("GET", &path, "", "").await;
        assert!(
            head.starts_with(&format!("http/1.1 {status}")) && body.contains(words),
            "{path}: {head} {body}"
        );
        assert!(head.contains("access-control-allow-origin: *"), "{head}");
    }
    let authorized = format!("authorization: Bearer {token}\r\n");
    let (head, _) = server.http("GET", "/rtc/validate", &authorized, "").await;
    assert!(head.starts_with("http/1.1 200"));
    let (head, body) = server.http("GET", "/rtc", &authorized, "").await;
    assert!(head.starts_with("http/1.1 404") && body.is_empty(), "older clients are refused plainly");
}

#[tokio::test]
async fn a_lesson_has_links_that_devices_exchange_for_tokens_of_their_own() {
    let server = Server::start().await;
    let body = json!({"name": "Algebra", "schools": ["Hill school"]}).to_string();
    let (head, body) = server.http("POST", "/api/lessons", "", &body).await;
    assert!(head.starts_with("http/1.1 201") && head.contains("cache-control: no-store"), "{head}");
    let lesson: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&lesson["name"], &lesson["schools"][0]["school"]),
        (&json!("Algebra"), &json!("Hill school"))
    );

    let cases = [
        (&lesson["teacher"], "teacher", Value::Null),
        (&lesson["class"], "class", Value::Null),
        (&lesson["viewer"], "viewer", Value::Null),
        (&lesson["schools"][0]["class"], "class", json!("Hill school")),
    ];
    for (link, role, school) in cases {
        let invitation = invitation(link);
        let joined = join(&server, &json!({"invitation": invitation, "name": "Ana"})).await;
        assert_eq!((&joined["lesson"], &joined["role"]), (&json!("Algebra"), &json!(role)));
        assert_eq!(joined["school"], school);
        let claims = auth::verify_join(&server.keys, joined["token"].as_str().unwrap()).unwrap();
        assert_eq!(claims.attributes["lectern.role"], role);
        assert_eq!(claims.attributes.get("lectern.school").map(String::as_str), school.as_str());
        assert_eq!(claims.name, "Ana");

        let again = join(&server, &json!({"invitation": invitation, "name": "Ana"})).await;
        assert_ne!(again["identity"], joined["identity"]);
        assert_eq!(again["room"], joined["room"]);
        let client = server.connect(again["token"].as_str().unwrap(), &join_request()).await;
        assert!(client.is_ok(), "the token opens the room");
    }
}

async fn join(server: &Server, body: &Value) -> Value {
    let (head, answer) = server.http("POST", "/api/join", "", &body.to_string()).await;
    assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
    serde_json::from_str(&answer).unwrap()
}

fn invitation(link: &Value) -> &str {
    let link = link.as_str().unwrap();
    link.strip_prefix("http://school.example:7880/lesson#invitation=").unwrap()
}

#[tokio::test]
async fn a_lesson_needs_no_body_and_refuses_a_bad_one() {
    let server = Server::start().await;
    let long = json!({"name": "x".repeat(81)}).to_string();
    let schools = json!({"schools": vec!["s"; 65]}).to_string();
    let huge = " ".repeat(40_000);
    let cases = [
        ("/api/lessons", "", "201"),
        ("/api/lessons", "{}", "201"),
        ("/api/lessons", "[]x", "400"),
        ("/api/lessons", &long, "400"),
        ("/api/lessons", &schools, "400"),
        ("/api/lessons", &huge, "413"),
        ("/api/join", "{}", "400"),
        ("/api/join", r#"{"invitation": "x", "name": "Ana"}"#, "401"),
    ];
    for (path, body, status) in cases {
        let (head, answer) = server.http("POST", path, "", body).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{path} {body:.20}: {head} {answer}");
    }
}

#[tokio::test]
async fn making_lessons_can_need_a_token() {
    let server = Server::start_with(Limits::default(), false).await;
    let (head, _) = server.http("POST", "/api/lessons", "", "").await;
    assert!(head.starts_with("http/1.1 401"), "{head}");
    let may = server.token_with("head", VideoGrant { room_create: true, ..VideoGrant::default() });
    for (token, status) in [(server.token("ana", "algebra"), "401"), (may, "201")] {
        let authorization = format!("authorization: Bearer {token}\r\n");
        let (head, _) = server.http("POST", "/api/lessons", &authorization, "").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
    }
}

#[tokio::test]
async fn links_follow_a_proxy_that_ends_tls() {
    let server = Server::start().await;
    let (_, body) = server.http("POST", "/api/lessons", "x-forwarded-proto: https\r\n", "").await;
    let lesson: Value = serde_json::from_str(&body).unwrap();
    assert!(lesson["class"].as_str().unwrap().starts_with("https://school.example:7880/lesson#"));
}

#[tokio::test]
async fn health_page_and_metrics_answer() {
    let server = Server::start().await;
    let _ana = server.join("ana", "algebra").await;
    server.connect("x", &join_request()).await.err().unwrap();
    for path in ["/", "/lesson", "/healthz", "/readyz"] {
        let (head, body) = server.http("GET", path, "", "").await;
        assert!(head.starts_with("http/1.1 200") && !body.is_empty(), "{path}: {head}");
    }
    let (head, _) = server.http("GET", "/assets/none.js", "", "").await;
    assert!(head.starts_with("http/1.1 404"));
    let (head, _) = server.http("GET", "/assets/..%2f..%2fCargo.toml", "", "").await;
    assert!(head.starts_with("http/1.1 404"), "nothing but the page is served");
    let (_, metrics) = server.http("GET", "/metrics", "", "").await;
    for line in [
        r#"lectern_signaling_joins_total{outcome="joined"} 1"#,
        r#"lectern_signaling_refused_total{reason="malformed"} 1"#,
        "lectern_signaling_sessions 1",
        "lectern_signaling_rooms 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
