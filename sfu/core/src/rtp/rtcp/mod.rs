//! RTCP (RFC 3550 §6, RFC 4585, RFC 5104): an iterator over the packets of a datagram, and a writer.
//!
//! The iterator asks for no more than RFC 5506 does: any packets, in any order, with or without a report in
//! front. Types that we do not use (extended reports, application packets) come as [`Rtcp::Unknown`].
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P| RC/FMT  |  packet type  |  length, in 32-bit words - 1  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

mod feedback;
#[cfg(feature = "sim")]
mod fuzz;
mod report;
mod source;
mod writer;

pub use feedback::{Fir, FirEntry, Nack, Pli, Remb, TransportFeedback};
#[cfg(feature = "sim")]
pub use fuzz::fuzz;
pub use report::{NtpTime, ReceiverReport, ReportBlock, SenderInfo, SenderReport};
pub use source::{Bye, Sdes};
pub use writer::{NoRoom, Writer};

pub use super::params::Ssrc;

const HEADER_LEN: usize = 4;
const VERSION: u8 = 2;
const PADDING_BIT: u8 = 0x20;

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
mod pt {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// Feedback message types (RFC 4585 §6, RFC 5104 §4.3, TWCC draft-01 §3.1).
mod fmt {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_CC: u8 = 15;
    pub(super) const PLI: u8 = 1;
    pub(super) const FIR: u8 = 4;
    pub(super) const APPLICATION_LAYER: u8 = 15;
}

/// Why bytes are not an RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Fewer than four bytes are left.
    #[error("header past the end")]
    Header,
    /// Not version 2.
    #[error("not version 2")]
    Version,
    /// The packet reaches past the end of the datagram.
    #[error("length past the end")]
    Length,
    /// The padding is longer than the packet, or says that it has no length.
    #[error("padding longer than the packet")]
    Padding,
    /// A sender report is cut.
    #[error("sender report cut")]
    SenderReport,
    /// A receiver report is cut.
    #[error("receiver report cut")]
    ReceiverReport,
    /// There are fewer report blocks than the header says.
    #[error("report blocks cut")]
    ReportBlocks,
    /// A goodbye names fewer sources than the header says.
    #[error("goodbye cut")]
    Bye,
    /// A feedback message has no sender and media source.
    #[error("feedback sources cut")]
    FeedbackSources,
    /// A NACK has no entry, or half of one.
    #[error("NACK entries cut")]
    Nack,
    /// A full intra request has no entry, or half of one.
    #[error("FIR entries cut")]
    Fir,
    /// A receiver estimated maximum bitrate is cut.
    #[error("REMB cut")]
    Remb,
    /// A transport-wide feedback lacks its fixed fields.
    #[error("transport-wide feedback cut")]
    TransportFeedback,
}

/// One packet of a datagram.
#[derive(Clone, Copy, Debug)]
pub enum Rtcp<'a> {
    /// RFC 3550 §6.4.1.
    SenderReport(SenderReport<'a>),
    /// RFC 3550 §6.4.2.
    ReceiverReport(ReceiverReport<'a>),
    /// RFC 3550 §6.5.
    Sdes(Sdes<'a>),
    /// RFC 3550 §6.6.
    Bye(Bye<'a>),
    /// RFC 4585 §6.2.1.
    Nack(Nack<'a>),
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.
    TransportFeedback(TransportFeedback<'a>),
    /// RFC 4585 §6.3.1.
    Pli(Pli),
    /// RFC 5104 §4.3.1.
    Fir(Fir<'a>),
    /// draft-alvestrand-rmcat-remb-03 §2.
    Remb(Remb<'a>),
    /// One that we do not use.
    Unknown {
        /// The packet type.
        pt: u8,
        /// The count or feedback message type.
        fmt: u8,
    },
}

/// The packets of a datagram. A packet that is broken inside is an error and the next one follows; where its
/// length cannot be trusted, the error is the last item.
#[inline]
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Rtcp<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        // What is not delimited cannot be skipped: until the length is known to hold, an error ends it.
        let rest = std::mem::take(&mut self.rest);
        let Some((&[flags, pt, high, low], _)) = rest.split_first_chunk() else {
            return Some(Err(ParseError::Header));
        };
        if flags >> 6 != VERSION {
            return Some(Err(ParseError::Version));
        }
        let len = HEADER_LEN + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((packet, rest)) = rest.split_at_checked(len) else { return Some(Err(ParseError::Length)) };
        self.rest = rest;
        Some(body(flags, packet).and_then(|body| parse(pt, flags & 0x1f, body)))
    }
}

/// What stands between a packet's header and its padding.
fn body(flags: u8, packet: &[u8]) -> Result<&[u8], ParseError> {
    let body = &packet[HEADER_LEN..];
    if flags & PADDING_BIT == 0 {
        return Ok(body);
    }
    let padding = usize::from(*body.last().ok_or(ParseError::Padding)?);
    let len = body.len().checked_sub(padding).filter(|_| padding > 0).ok_or(ParseError::Padding)?;
    Ok(&body[..len])
}

fn parse(pt: u8, fmt: u8, body: &[u8]) -> Result<Rtcp<'_>, ParseError> {
    Ok(match (pt, fmt) {
        (pt::SENDER_REPORT, count) => Rtcp::SenderReport(SenderReport::parse(count, body)?),
        (pt::RECEIVER_REPORT, count) => Rtcp::ReceiverReport(ReceiverReport::parse(count, body)?),
        (pt::SOURCE_DESCRIPTION, count) => Rtcp::Sdes(Sdes::new(count, body)),
        (pt::BYE, count) => Rtcp::Bye(Bye::parse(count, body)?),
        (pt::TRANSPORT_FEEDBACK, fmt::NACK) => Rtcp::Nack(Nack::parse(body)?),
        (pt::TRANSPORT_FEEDBACK, fmt::TRANSPORT_CC) => {
            Rtcp::TransportFeedback(TransportFeedback::parse(body)?)
        }
        (pt::PAYLOAD_FEEDBACK, fmt::PLI) => Rtcp::Pli(Pli::parse(body)?),
        (pt::PAYLOAD_FEEDBACK, fmt::FIR) => Rtcp::Fir(Fir::parse(body)?),
        (pt::PAYLOAD_FEEDBACK, fmt::APPLICATION_LAYER) => match Remb::parse(body)? {
            Some(remb) => Rtcp::Remb(remb),
            None => Rtcp::Unknown { pt, fmt },
        },
        _ => Rtcp::Unknown { pt, fmt },
    })
}

/// The 32-bit word at `at`, which the caller has checked to be there.
#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The sources that a run of words names.
#[inline]
fn ssrcs(words: &[u8]) -> impl Iterator<Item = Ssrc> + '_ {
    words.chunks_exact(4).map(|chunk| Ssrc(word(chunk, 0)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::Bitrate;

    const SENDER: Ssrc = Ssrc(0x902f_9e2e);
    const MEDIA: Ssrc = Ssrc(0xbc5e_9a40);

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: MEDIA,
        fraction_lost: 85,
        cumulative_lost: -2,
        highest_seq: 0x0001_46e1,
        jitter: 273,
        last_sr: 0x9f3_6432,
        delay_since_sr: 150_137,
    };

    fn one(datagram: &[u8]) -> Rtcp<'_> {
        let mut packets = packets(datagram);
        let packet = packets.next().expect("a packet").expect("a valid packet");
        assert!(packets.next().is_none());
        packet
    }

    fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
        let mut out = [0xee; 512];
        let mut writer = Writer::new(&mut out);
        write(&mut writer).expect("there is room");
        let len = writer.len();
        out[..len].to_vec()
    }

    #[test]
    fn reads_and_writes_a_sender_report() {
        let wire = [
            0x81, 0xc8, 0x00, 0x0c, 0x90, 0x2f, 0x9e, 0x2e, 0xda, 0x8b, 0xd1, 0xfc, 0xdd, 0xdd, 0xa0, 0x5a,
            0xaa, 0xf4, 0xed, 0xd5, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0xbc, 0x5e, 0x9a, 0x40,
            0x55, 0xff, 0xff, 0xfe, 0x00, 0x01, 0x46, 0xe1, 0x00, 0x00, 0x01, 0x11, 0x09, 0xf3, 0x64, 0x32,
            0x00, 0x02, 0x4a, 0x79,
        ];
        let Rtcp::SenderReport(report) = one(&wire) else { panic!("a sender report") };
        let info =
            SenderInfo { ntp: NtpTime(0xda8b_d1fc_dddd_a05a), rtp_time: 0xaaf4_edd5, packets: 1, octets: 2 };
        assert_eq!((report.ssrc, report.info), (SENDER, info));
        assert!(report.blocks().eq([BLOCK]));
        assert_eq!(written(|writer| writer.sender_report(SENDER, &info, &[BLOCK])), wire);
    }

    #[test]
    fn a_round_trip_follows_the_example_of_rfc_3550() {
        // Figure 2: sent at 0xb44db705.20000000, held for 5.25 s, back at 0xb710:8000.
        let sent = NtpTime(0xb44d_b705_2000_0000);
        let block = ReportBlock { last_sr: 0, ..BLOCK }.with_last_sr(sent, Duration::from_millis(5250));
        assert_eq!((block.last_sr, block.delay_since_sr), (0xb705_2000, 0x0005_4000));
        let back = NtpTime(0xb44d_b710_8000_0000);
        assert_eq!(block.round_trip(back), Some(Duration::from_millis(6125)));
        assert_eq!(block.round_trip(sent), None, "it was held longer than the time gone by");
        assert_eq!(ReportBlock { last_sr: 0, ..block }.round_trip(back), None);
    }

    #[test]
    fn losses_are_cut_to_24_bits() {
        for (lost, on_the_wire) in [(-1, -1), (i32::MAX, 0x7f_ffff), (i32::MIN, -0x80_0000)] {
            let block = ReportBlock { cumulative_lost: lost, ..BLOCK };
            let wire = written(|writer| writer.receiver_report(SENDER, &[block]));
            let Rtcp::ReceiverReport(report) = one(&wire) else { panic!("a receiver report") };
            assert!(report.blocks().map(|block| block.cumulative_lost).eq([on_the_wire]));
        }
    }

    #[test]
    fn reads_and_writes_a_compound() {
        let wire = written(|writer| {
            writer.receiver_report(SENDER, &[])?;
            writer.sdes_cname(SENDER, "lectern")?;
            writer.pli(Pli { sender: SENDER, media: MEDIA })?;
            writer.bye(&[SENDER, MEDIA])
        });
        let packets: Vec<_> = packets(&wire).map(Result::unwrap).collect();
        let [Rtcp::ReceiverReport(report), Rtcp::Sdes(sdes), Rtcp::Pli(pli), Rtcp::Bye(bye)] = &packets[..]
        else {
            panic!("{packets:?}")
        };
        assert_eq!((report.ssrc, report.blocks().count()), (SENDER, 0));
        assert!(sdes.cnames().eq([(SENDER, &b"lectern"[..])]));
        assert_eq!(*pli, Pli { sender: SENDER, media: MEDIA });
        assert!(bye.ssrcs().eq([SENDER, MEDIA]));
    }

    #[test]
    fn names_of_every_length_are_padded_and_ended() {
        for len in 1..=255 {
            let cname = "x".repeat(len);
            let wire = written(|writer| writer.sdes_cname(SENDER, &cname));
            let Rtcp::Sdes(sdes) = one(&wire) else { panic!("a source description") };
            assert!(sdes.cnames().eq([(SENDER, cname.as_bytes())]));
        }
        let mut out = [0; 512];
        assert_eq!(Writer::new(&mut out).sdes_cname(SENDER, &"x".repeat(256)), Err(NoRoom));
    }

    #[test]
    fn other_items_and_cut_chunks_hide_no_name_in_front() {
        // A tool and a name; a chunk without a name; a chunk that is cut.
        let body = b"\x00\x00\x00\x01\x06\x01t\x01\x01a\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x01\x09b\x00";
        let wire = [&[0x83, 0xca, 0, 7][..], body].concat();
        let Rtcp::Sdes(sdes) = one(&wire) else { panic!("a source description") };
        assert!(sdes.cnames().eq([(Ssrc(1), &b"a"[..])]));
    }

    #[test]
    fn a_nack_names_each_bit_of_its_mask() {
        let wire = [
            0x81, 0xcd, 0x00, 0x04, 0x90, 0x2f, 0x9e, 0x2e, 0xbc, 0x5e, 0x9a, 0x40, 0xff, 0xfe, 0x80, 0x05,
            0x01, 0x00, 0x00, 0x00,
        ];
        let Rtcp::Nack(nack) = one(&wire) else { panic!("a NACK") };
        assert_eq!((nack.sender, nack.media), (SENDER, MEDIA));
        let seqs = [0xfffe, 0xffff, 1, 14, 256];
        assert!(nack.seqs().eq(seqs), "across the wrap");
        assert_eq!(written(|writer| writer.nack(SENDER, MEDIA, &seqs).map(drop)), wire);
    }

    #[test]
    fn a_nack_says_how_much_found_room() {
        let seqs = [10, 11, 26, 27, 100];
        let named = |len| Writer::new(&mut vec![0; len]).nack(SENDER, MEDIA, &seqs);
        assert_eq!(named(24), Ok(5));
        assert_eq!(named(23), Ok(4));
        assert_eq!(named(16), Ok(3));
        assert_eq!(named(15), Err(NoRoom));
        assert_eq!(Writer::new(&mut [0; 64]).nack(SENDER, MEDIA, &[]), Err(NoRoom));
    }

    #[test]
    fn reads_and_writes_requests_for_key_frames() {
        let entries = [FirEntry { media: MEDIA, command: 7 }, FirEntry { media: SENDER, command: 255 }];
        let wire = written(|writer| writer.fir(SENDER, &entries));
        assert_eq!(wire[..12], [0x84, 0xce, 0, 6, 0x90, 0x2f, 0x9e, 0x2e, 0, 0, 0, 0]);
        let Rtcp::Fir(fir) = one(&wire) else { panic!("a full intra request") };
        assert!(fir.entries().eq(entries));
    }

    #[test]
    fn reads_an_estimate() {
        // As captured from a browser: exponent 6, mantissa 139487.
        let wire = [
            0x8f, 0xce, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 26, 32, 223, 72, 116, 237,
            22,
        ];
        let Rtcp::Remb(remb) = one(&wire) else { panic!("an estimate") };
        assert_eq!(remb.bitrate, Bitrate::bps(8_927_168));
        assert!(remb.media().eq([Ssrc(1_215_622_422)]));

        let mut unlimited = wire;
        unlimited[17] = 0xff;
        let Rtcp::Remb(remb) = one(&unlimited) else { panic!("an estimate") };
        assert_eq!(remb.bitrate, Bitrate::bps(u64::MAX));

        let mut somebody_elses = wire;
        somebody_elses[12] = b'X';
        assert!(matches!(one(&somebody_elses), Rtcp::Unknown { pt: 206, fmt: 15 }));
    }

    #[test]
    fn skips_what_it_does_not_use() {
        // An extended report, then a PLI without a report in front (RFC 5506).
        let wire = [&[0x80, 207, 0, 1, 0, 0, 0, 1][..], &[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]].concat();
        let packets: Vec<_> = packets(&wire).map(Result::unwrap).collect();
        assert!(matches!(
            packets[..],
            [Rtcp::Unknown { pt: 207, fmt: 0 }, Rtcp::Pli(Pli { sender: Ssrc(1), media: Ssrc(2) })]
        ));
    }

    #[test]
    fn names_the_broken_field() {
        let table: [(&[u8], ParseError); 13] = [
            (&[0x80, 201, 0], ParseError::Header),
            (&[0x40, 201, 0, 1, 0, 0, 0, 1], ParseError::Version),
            (&[0x80, 201, 0, 2, 0, 0, 0, 1], ParseError::Length),
            (&[0xa0, 201, 0, 0], ParseError::Padding),
            (&[0xa0, 201, 0, 1, 0, 0, 0, 0], ParseError::Padding),
            (&[0xa0, 201, 0, 1, 0, 0, 0, 5], ParseError::Padding),
            (&[0x80, 200, 0, 1, 0, 0, 0, 1], ParseError::SenderReport),
            (&[0x80, 201, 0, 0], ParseError::ReceiverReport),
            (&[0x81, 201, 0, 1, 0, 0, 0, 1], ParseError::ReportBlocks),
            (&[0x82, 203, 0, 1, 0, 0, 0, 1], ParseError::Bye),
            (&[0x81, 206, 0, 1, 0, 0, 0, 1], ParseError::FeedbackSources),
            (&[0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2], ParseError::Nack),
            (&[0x84, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], ParseError::Fir),
        ];
        for (wire, error) in table {
            assert_eq!(packets(wire).next().unwrap().unwrap_err(), error, "{wire:02x?}");
        }
    }

    #[test]
    fn a_broken_packet_hides_no_other_while_lengths_hold() {
        let wire = [&[0x80, 200, 0, 1, 0, 0, 0, 1][..], &[0x80, 201, 0, 1, 0, 0, 0, 9], &[0x80, 201, 9, 9]];
        let results: Vec<_> = packets(&wire.concat()).map(|packet| packet.err()).collect();
        assert_eq!(results, [Some(ParseError::SenderReport), None, Some(ParseError::Length)]);
    }

    #[test]
    fn a_packet_without_room_leaves_no_trace() {
        let mut out = [0; 20];
        let mut writer = Writer::new(&mut out);
        writer.pli(Pli { sender: SENDER, media: MEDIA }).unwrap();
        assert_eq!(writer.pli(Pli { sender: SENDER, media: MEDIA }), Err(NoRoom));
        assert_eq!(writer.receiver_report(SENDER, &[BLOCK; 32]), Err(NoRoom));
        assert_eq!(writer.len(), 12);
        writer.bye(&[SENDER]).unwrap();
        assert_eq!(writer.len(), 20);
    }
}
