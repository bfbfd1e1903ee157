//! Clients that open more connections than there may be, or ask too slowly.

use std::time::Duration;

use signaling::connections::Bounds;
use signaling::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Server;

async fn start(bounds: Bounds) -> Server {
    Server::start_bounded(Limits::default(), true, bounds).await
}

/// All that the server sends until it closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text));
    // A connection that was refused may end with a reset.
    reading.await.expect("the server closes it").ok();
    text
}

#[tokio::test]
async fn a_request_whose_head_does_not_come_to_an_end_is_given_up() {
    let server = start(Bounds { head: Duration::from_millis(100), ..Bounds::default() }).await;
    for begun in ["", "PRI * HTTP", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert!(!rest(&mut stream).await.contains("200 OK"), "{begun}");
    }
}

#[tokio::test]
async fn a_request_whose_body_does_not_come_to_an_end_is_given_up() {
    let server = start(Bounds { request: Duration::from_millis(100), ..Bounds::default() }).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let begun = b"POST /api/lessons HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(begun).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408"));
    assert_eq!(server.metrics.refused.with_label_values(&["too_slow"]).get(), 1);
}

#[tokio::test]
async fn a_websocket_outlives_the_time_for_its_request() {
    let short = Duration::from_millis(100);
    let server = start(Bounds { head: short, request: short, ..Bounds::default() }).await;
    let mut ana = server.join("ana", "algebra").await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    rest(&mut idle).await;
    ana.publish_camera("cam").await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_counted_and_a_free_place_serves_again() {
    let server = start(Bounds { connections: 2, ..Bounds::default() }).await;
    let ana = server.join("ana", "algebra").await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");

    let mut refused = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(rest(&mut refused).await, "", "a WebSocket holds a place as well");
    let refusals = server.metrics.connections_refused.with_label_values(&["too_many"]);
    assert_eq!((refusals.get(), server.metrics.connections.get()), (1, 2));

    drop(ana);
    let (mut answer, mut attempts) = (String::new(), 0);
    while !answer.starts_with("HTTP/1.1 200") {
        attempts += 1;
        assert!(attempts < 10_000, "a place comes free");
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok();
        answer = rest(&mut stream).await;
    }
}
