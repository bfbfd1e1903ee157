//! The SFU's edge on real sockets: start, what an operator sees, hostile datagrams, and stop.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use common::{eventually, get, metric, start, with_one_and_two_workers};
use sfu::config::Config;
use sfu_protocol::control::FromSfu;

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[test]
fn a_busy_port_is_one_line_that_says_what_to_do() {
    let udp = UdpSocket::bind(LOCALHOST).unwrap();
    let tcp = TcpListener::bind(LOCALHOST).unwrap();
    let (udp, tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    for (media, metrics, expected) in [
        (
            udp,
            LOCALHOST,
            format!("UDP port {} is in use: stop the other server or set --udp-bind", udp.port()),
        ),
        (
            LOCALHOST,
            tcp,
            format!("TCP port {} is in use: stop the other server or set --metrics-bind", tcp.port()),
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lectern-sfu"))
            .args([
                "--log-filter",
                "warn",
                "--udp-bind",
                &media.to_string(),
                "--metrics-bind",
                &metrics.to_string(),
            ])
            .args(["--receive-buffer-bytes", "65536", "--send-buffer-bytes", "65536"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("lectern-sfu: {expected}\n"));
    }
}

/// A file of the form that signaling makes for its nodes.
fn node_certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["edge".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("edge-node.pem");
    let text = format!("# Lectern node: edge\n{certificate}{certificate}{}", key.serialize_pem());
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn without_its_certificate_a_node_says_how_to_make_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_lectern-sfu"))
        .args(["--log-filter", "error", "--udp-bind", "127.0.0.1:0", "--metrics-bind", "127.0.0.1:0"])
        .args(["--node-certificate", "nowhere.pem"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("lectern-sfu: cannot read the node's certificate nowhere.pem"), "{said}");
    assert!(said.ends_with("and name it with --node-certificate\n"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_terminated_process_drains_and_exits_with_success() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_lectern-sfu"))
        .args(["--udp-bind", "127.0.0.1:0", "--metrics-bind", "127.0.0.1:0", "--log-format", "json"])
        // Nobody answers there: an SFU serves its metrics and stops in order all the same.
        .args(["--signaling", "127.0.0.1:9", "--node-certificate", &node_certificate()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let ready = log.by_ref().map(Result::unwrap).find(|line| line.contains(r#""message":"metrics""#));
    assert!(ready.is_some(), "it says where its metrics are");

    // The standard library cannot send a signal; every shell can.
    let kill = format!("kill -TERM {}", process.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().as_ref().is_ok_and(ExitStatus::success));
    let rest: Vec<_> = log.map(Result::unwrap).collect();
    assert!(process.wait().unwrap().success(), "{rest:?}");
}

with_one_and_two_workers!(
    the_metrics_page_and_the_health_pages_answer,
    datagrams_that_mean_nothing_are_counted_and_harmless,
    an_idle_worker_sleeps,
    draining_tells_signaling_and_is_seen_by_the_readiness_page,
);

async fn the_metrics_page_and_the_health_pages_answer(workers: usize) {
    let sfu = start(workers).await;
    let (status, page) = get(sfu.pages, "/metrics").await;
    assert_eq!(status, 200);
    let mut samples = 0;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("lectern_sfu_") && value.parse::<f64>().is_ok(), "{line}");
        samples += 1;
    }
    let described = page.lines().filter(|line| line.starts_with("# HELP lectern_sfu_")).count();
    assert!(described > 20 && samples > described, "{page}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(sfu.pages, path).await, (200, "ok".to_owned()));
    }
}

async fn datagrams_that_mean_nothing_are_counted_and_harmless(workers: usize) {
    let sfu = start(workers).await;
    let client = UdpSocket::bind(LOCALHOST).unwrap();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut sent = 0;
    client.send_to(&[], sfu.udp).unwrap();
    for first in 0..=255 {
        for len in [1, 12, 20, 200, 1500] {
            let mut datagram = vec![first; len];
            for byte in datagram.iter_mut().skip(1) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (random >> 56) as u8;
            }
            client.send_to(&datagram, sfu.udp).unwrap();
            sent += 1;
        }
        // Room for them in the socket's buffer: none of these may be lost before it is looked at.
        eventually("read", async || metric(&sfu, "lectern_sfu_received_datagrams_total", None).await == sent)
            .await;
    }
    for len in [1501, 9000, 65_507] {
        client.send_to(&vec![0x80; len], sfu.udp).unwrap();
    }
    let refused = async |reason| metric(&sfu, "lectern_sfu_refused_datagrams_total", Some(reason)).await;
    eventually("too long", async || refused("oversized").await == 3).await;
    assert!(refused("unrecognised").await > 0 && refused("unknown_tuple").await > 0);
    assert_eq!(get(sfu.pages, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(
        metric(&sfu, "lectern_sfu_sent_datagrams_total", None).await,
        0,
        "nobody is answered who is not known"
    );
}

async fn an_idle_worker_sleeps(workers: usize) {
    let sfu = start(workers).await;
    let turns = async || metric(&sfu, "lectern_sfu_worker_turns_total", None).await;
    let before = turns().await;
    for _ in 0..100 {
        turns().await;
    }
    let most = 2 * 101 * workers as u64;
    assert!(turns().await - before <= most, "at most one turn to answer and one to find nothing more");
}

async fn draining_tells_signaling_and_is_seen_by_the_readiness_page(workers: usize) {
    let mut sfu = start(workers).await;
    let pages = sfu.pages;
    let drained = tokio::spawn(sfu.sfu.drain());
    assert_eq!(sfu.control.events.recv().await, Some(FromSfu::Draining));
    assert_eq!(get(pages, "/readyz").await.0, 503);
    drained.await.unwrap();
    assert_eq!(sfu.control.events.recv().await, None, "the link ends with the SFU");
    assert_eq!(get(pages, "/healthz").await.0, 503);
}

#[tokio::test]
async fn a_bad_configuration_does_not_start() {
    let config = Config { consent_timeout_s: 1, ..Config::default() };
    let error = sfu::start(&config).err().unwrap();
    assert_eq!(error.to_string(), "consent_timeout_s is 1: choose 10 to 3600");
}
