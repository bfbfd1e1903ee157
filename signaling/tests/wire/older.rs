//! Clients of the older protocol on real WebSockets, against a scripted SFU.

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{SessionDescription, participant_info};
use tokio_tungstenite::tungstenite;

use crate::support::Server;

#[tokio::test]
async fn a_client_joins_by_its_query_answers_an_offer_and_is_active() {
    let server = Server::start().await;
    let mut ben = server.join("ben", "algebra").await;
    let token = server.token("ana", "algebra");
    let query = format!(
        "access_token={token}&auto_subscribe=1&sdk=js&version=2.23.0&protocol=16&os=Linux&browser=Chrome"
    );
    let mut ana = server.connect_v0(&query).await.unwrap();
    let Response::Join(join) = ana.next().await else { panic!("the first message is the join response") };
    assert!(join.subscriber_primary && join.other_participants[0].identity == "ben");
    let sid = join.participant.unwrap().sid;

    let offer = ana
        .until(|message| match message {
            Response::Offer(offer) => Some(offer.clone()),
            _ => None,
        })
        .await;
    assert_eq!((offer.r#type.as_str(), offer.sdp.as_str(), offer.id), ("offer", "v=0 the SFU's offer", 1));
    let (r#type, sdp) = ("answer".to_owned(), "v=0 an answer".to_owned());
    ana.send(Request::Answer(SessionDescription { r#type, sdp, id: 1, ..Default::default() })).await;
    ben.until(|message| match message {
        Response::Update(update) => {
            let ana = update.participants.iter().find(|someone| someone.sid == sid)?;
            (ana.state() == participant_info::State::Active).then_some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_gone_is_joined_anew() {
    let server = Server::start().await;
    let token = server.token("ana", "algebra");
    let query = format!("access_token={token}&reconnect=1&sid=PA_gone&sdk=go&protocol=9");
    let mut ana = server.connect_v0(&query).await.unwrap();
    let Response::Leave(leave) = ana.next().await else { panic!("there is no such session") };
    assert_eq!(leave.action(), Action::Reconnect);
    ana.closed().await;
}

#[tokio::test]
async fn who_has_no_token_is_refused_before_the_upgrade_and_told_why() {
    let server = Server::start().await;
    let Err(tungstenite::Error::Http(refused)) = server.connect_v0("sdk=js&protocol=16").await else {
        panic!("nobody gets in without a token")
    };
    assert_eq!(refused.status().as_u16(), 401);
    let token = server.token("ana", "algebra");
    for (path, status) in [
        (format!("/rtc/validate?access_token={token}"), "200"),
        (format!("/rtc/validate?access_token={token}&os=a&os=b"), "400"),
        ("/rtc/validate?access_token=nonsense".to_owned(), "401"),
        (format!("/rtc?access_token={token}"), "404"),
    ] {
        let (head, _) = server.http("GET", &path, "", "").await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path}: {head}");
    }
}
