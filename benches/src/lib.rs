//! What a packet costs: the machine's limit, the whole process, and inputs that the benches share.

pub mod counting;
pub mod forward;
pub mod gate;
pub mod limit;
pub mod memory;
pub mod process;
pub mod talk;

use sfu_core::rtp::ext::AudioLevel;
use sfu_core::rtp::packet::{Header, HeaderWriter};
use sfu_core::rtp::params::Ssrc;

/// A video packet as a browser sends it, decrypted: VP8 descriptor with picture id, three header extensions.
pub fn video_packet() -> Vec<u8> {
    let mut packet = vec![0; 1200];
    let header = Header { marker: true, pt: 96, seq: 4711, timestamp: 90_000, ssrc: Ssrc(0x1234_5678) };
    let mut writer = HeaderWriter::new(&mut packet, &header).expect("1200 bytes hold a header");
    writer.extension(1, &AudioLevel { voice: false, level: 127 }.to_bytes());
    writer.extension(3, &[0x12, 0x34]);
    writer.extension(4, b"0");
    let start = writer.finish();
    packet[start..start + 7].copy_from_slice(&[0x90, 0xe0, 0x92, 0x34, 0x07, 0x20, 0x01]);
    packet
}
