//! An SFU on a free port with its pages, and ways to look at it.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::time::Duration;

use prometheus::proto::{LabelPair, Metric};
use sfu::Sfu;
use sfu::config::Config;
use sfu::control::ControlLink;
use sfu::metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Makes each of these functions a test with one worker and a test with two.
macro_rules! with_one_and_two_workers {
    ($($test:ident),* $(,)?) => {
        mod one_worker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(1).await;
            })*
        }
        mod two_workers {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(2).await;
            })*
        }
    };
}
pub(crate) use with_one_and_two_workers;

/// A running SFU on loopback.
pub(crate) struct Running {
    pub(crate) sfu: Sfu,
    pub(crate) control: ControlLink,
    pub(crate) udp: SocketAddr,
    /// Where its pages are.
    pub(crate) pages: SocketAddr,
}

/// Starts an SFU with so many workers.
pub(crate) async fn start(workers: usize) -> Running {
    start_with(Config { workers, ..Config::default() }).await
}

/// Starts an SFU on free ports of the loopback interface.
pub(crate) async fn start_with(config: Config) -> Running {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let (sfu, control) = sfu::start(&Config { udp_bind: loopback, ..config }).unwrap();
    let listener = metrics::bind(loopback).await.unwrap();
    let pages = listener.local_addr().unwrap();
    let router = sfu.metrics().router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Running { udp: sfu.udp_addr(), sfu, control, pages }
}

/// Status and body of a page.
pub(crate) async fn get(server: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A metric as it is now: the sum over its labels, or the one with this value.
pub(crate) async fn metric(running: &Running, name: &str, label: Option<&str>) -> u64 {
    let families = running.sfu.metrics().gather().await.unwrap();
    let family = families.iter().find(|family| family.name() == name).expect(name);
    let labelled =
        |metric: &&Metric| label.is_none() || metric.get_label().first().map(LabelPair::value) == label;
    let values = family.get_metric().iter().filter(labelled);
    values.map(|metric| metric.get_counter().get_value().max(metric.get_gauge().get_value()) as u64).sum()
}

/// Polls until a fact holds.
///
/// # Panics
/// After 15 s.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
