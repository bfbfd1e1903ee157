//! What must hold for any bytes.

use std::collections::BTreeSet;

use super::{NoRoom, Rtcp, Writer, packets};

/// Parses `data`, drains every iterator, writes what there is a writer for and expects the same again.
pub fn fuzz(data: &[u8]) {
    let mut out = vec![0; 2 * data.len() + 64];
    for packet in packets(data).flatten() {
        let mut writer = Writer::new(&mut out);
        let written = write_again(&packet, &mut writer);
        let len = writer.len();
        assert!(len.is_multiple_of(4));
        if written == Ok(true) {
            let mut again = packets(&out[..len]);
            let packet_again = again.next().expect("it was written").expect("what we write, we read");
            assert_eq!(facts(&packet_again), facts(&packet));
            assert!(again.next().is_none());
        }
    }
}

/// `Ok(false)` where there is no writer for the packet.
fn write_again(packet: &Rtcp<'_>, writer: &mut Writer<'_>) -> Result<bool, NoRoom> {
    match packet {
        Rtcp::SenderReport(report) => {
            writer.sender_report(report.ssrc, &report.info, &report.blocks().collect::<Vec<_>>())?;
        }
        Rtcp::ReceiverReport(report) => {
            writer.receiver_report(report.ssrc, &report.blocks().collect::<Vec<_>>())?;
        }
        Rtcp::Bye(bye) => writer.bye(&bye.ssrcs().collect::<Vec<_>>())?,
        Rtcp::Nack(nack) => {
            let seqs: Vec<_> = nack.seqs().collect();
            // A peer may have named packets in an order that packs badly: what found room must still be right.
            let named = writer.nack(nack.sender, nack.media, &seqs)?;
            return Ok(named == seqs.len());
        }
        Rtcp::TransportFeedback(feedback) => writer.transport_feedback(feedback)?,
        Rtcp::Pli(pli) => writer.pli(*pli)?,
        Rtcp::Fir(fir) => writer.fir(fir.sender, &fir.entries().collect::<Vec<_>>())?,
        Rtcp::Sdes(_) | Rtcp::Remb(_) | Rtcp::Unknown { .. } => {
            facts(packet);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Everything that a packet says, as text. What a NACK names is compared as a set.
fn facts(packet: &Rtcp<'_>) -> String {
    match packet {
        Rtcp::SenderReport(r) => format!("{:?} {:?} {:?}", r.ssrc, r.info, r.blocks().collect::<Vec<_>>()),
        Rtcp::ReceiverReport(r) => format!("{:?} {:?}", r.ssrc, r.blocks().collect::<Vec<_>>()),
        Rtcp::Sdes(sdes) => format!("{:?}", sdes.cnames().collect::<Vec<_>>()),
        Rtcp::Bye(bye) => format!("{:?}", bye.ssrcs().collect::<Vec<_>>()),
        Rtcp::Nack(nack) => {
            let seqs: BTreeSet<_> = nack.seqs().collect();
            format!("{:?} {:?} {seqs:?}", nack.sender, nack.media)
        }
        Rtcp::Fir(fir) => format!("{:?} {:?}", fir.sender, fir.entries().collect::<Vec<_>>()),
        Rtcp::Remb(remb) => format!("{remb:?} {:?}", remb.media().collect::<Vec<_>>()),
        Rtcp::TransportFeedback(_) | Rtcp::Pli(_) | Rtcp::Unknown { .. } => format!("{packet:?}"),
    }
}
