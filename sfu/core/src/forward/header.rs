//! The headers of one down track. Those of one form differ in values alone, so a form is laid out once, by
//! [`HeaderWriter`], and a packet's header is a copy of it with its own values stored where they belong.

use super::rtx::Stamps;
use crate::rtp::packet::{FIXED_HEADER_LEN, Header, HeaderWriter};
use crate::rtp::params::{Extension, SendParams, Ssrc};
use crate::track::packet_cache::PacketFacts;

/// Which extensions a header has of those that not every header of the track has: an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form(u8);

impl Form {
    const MID: u8 = 1;
    const AUDIO_LEVEL: u8 = 2;
    const ORIENTATION: u8 = 4;
    const ALL: usize = 8;

    #[inline]
    fn of(facts: &PacketFacts, mid: bool) -> Self {
        let has = |present: bool, bit: u8| u8::from(present) * bit;
        Self(
            has(mid, Self::MID)
                | has(facts.audio_level.is_some(), Self::AUDIO_LEVEL)
                | has(facts.orientation.is_some(), Self::ORIENTATION),
        )
    }

    /// Of a packet without media.
    fn bare(mid: bool) -> Self {
        Self(u8::from(mid) * Self::MID)
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// See the module.
#[derive(Debug)]
#[repr(C)]
pub struct Headers {
    /// Lengths by form.
    lens: [u8; Form::ALL],
    /// The form written last: nearly always that of the next packet.
    layout: Layout,
}

/// A header whose values are zero, and where in it they begin; 0: there is no such extension.
#[derive(Debug)]
struct Layout {
    form: Form,
    len: u8,
    audio_level: u8,
    orientation: u8,
    send_time: u8,
    transport_cc: u8,
    /// The first byte, which says whether there are extensions.
    flags: u8,
    /// What is behind the fixed header.
    block: [u8; MAX_BLOCK_LEN],
}

/// No header that we write is longer: each extension with a byte in front, the longest name among them.
pub const MAX_HEADER_LEN: usize = FIXED_HEADER_LEN + MAX_BLOCK_LEN;
const MAX_BLOCK_LEN: usize = 4 + (1 + 16 + 1 + 1 + 1 + 1 + 1 + 3 + 1 + 2_usize).next_multiple_of(4);

impl Headers {
    /// Headers of a track that goes out so.
    pub fn new(params: &SendParams) -> Self {
        let lens = std::array::from_fn(|form| Layout::new(params, Form(form as u8)).len);
        Self { lens, layout: Layout::new(params, Form(0)) }
    }

    /// Length of a packet's header; `mid`: the m-line is named.
    #[inline]
    pub fn len(&self, facts: &PacketFacts, mid: bool) -> usize {
        usize::from(self.lens[usize::from(Form::of(facts, mid).0)])
    }

    /// As [`len`](Self::len), of a packet without media.
    pub fn bare_len(&self, mid: bool) -> usize {
        usize::from(self.lens[usize::from(Form::bare(mid).0)])
    }

    /// Whether each packet has a transport-wide number.
    #[inline]
    pub fn counts(&self) -> bool {
        self.layout.transport_cc != 0
    }

    /// Whether each packet says when it was sent.
    #[inline]
    pub fn tells_time(&self) -> bool {
        self.layout.send_time != 0
    }

    /// Writes the header of a packet and returns its length; `None` where it finds no room. The same arguments
    /// give the same bytes.
    #[inline]
    pub fn write(
        &mut self,
        params: &SendParams,
        header: &Header,
        facts: &PacketFacts,
        stamps: Stamps,
        out: &mut [u8],
    ) -> Option<usize> {
        let form = Form::of(facts, stamps.mid);
        if form != self.layout.form {
            self.layout = Layout::new(params, form);
        }
        let len = usize::from(self.layout.len);
        if let Some(bytes) = out.first_chunk_mut() {
            // What is behind the header is overwritten by the payload: a copy of known length is cheaper.
            self.layout.fill(bytes, header, facts, stamps);
        } else {
            let mut bytes = [0; MAX_HEADER_LEN];
            self.layout.fill(&mut bytes, header, facts, stamps);
            out.get_mut(..len)?.copy_from_slice(&bytes[..len]);
        }
        Some(len)
    }

    /// As [`write`](Self::write), of a packet without media: the layout of those with it stays.
    #[cold]
    pub fn write_bare(
        &self,
        params: &SendParams,
        header: &Header,
        stamps: Stamps,
        out: &mut [u8],
    ) -> Option<usize> {
        let layout = Layout::new(params, Form::bare(stamps.mid));
        let len = usize::from(layout.len);
        let mut bytes = [0; MAX_HEADER_LEN];
        layout.fill_bare(&mut bytes, header, stamps);
        out.get_mut(..len)?.copy_from_slice(&bytes[..len]);
        Some(len)
    }
}

impl Layout {
    #[cold]
    fn new(params: &SendParams, form: Form) -> Self {
        let mut bytes = [0; MAX_HEADER_LEN];
        let header = Header { marker: false, pt: 0, seq: 0, timestamp: 0, ssrc: Ssrc(0) };
        let mut writer = HeaderWriter::new(&mut bytes, &header).expect("the longest header fits");
        let mut place = |extension, present: bool, value: &[u8]| {
            let id = params.extensions.id(extension).filter(|_| present);
            id.and_then(|id| writer.extension(id, value)).map_or(0, |at| at as u8)
        };
        place(Extension::Mid, form.has(Form::MID), params.mid.as_bytes());
        let audio_level = place(Extension::AudioLevel, form.has(Form::AUDIO_LEVEL), &[0; 1]);
        let orientation = place(Extension::VideoOrientation, form.has(Form::ORIENTATION), &[0; 1]);
        let send_time = place(Extension::AbsSendTime, true, &[0; 3]);
        let transport_cc = place(Extension::TransportCc, true, &[0; 2]);
        let len = writer.finish() as u8;
        let (flags, block) = (bytes[0], *bytes.last_chunk().expect("a block is behind the fixed header"));
        Self { form, len, audio_level, orientation, send_time, transport_cc, flags, block }
    }

    #[inline]
    fn fill(&self, out: &mut [u8; MAX_HEADER_LEN], header: &Header, facts: &PacketFacts, stamps: Stamps) {
        self.fill_bare(out, header, stamps);
        if let Some(level) = facts.audio_level {
            store(out, self.audio_level, level.to_bytes());
        }
        if let Some(orientation) = facts.orientation {
            store(out, self.orientation, orientation.to_bytes());
        }
    }

    #[inline]
    fn fill_bare(&self, out: &mut [u8; MAX_HEADER_LEN], header: &Header, stamps: Stamps) {
        out[FIXED_HEADER_LEN..].copy_from_slice(&self.block);
        out[0] = self.flags;
        header.write(out.first_chunk_mut().expect("every header is longer"));
        if let Some(time) = stamps.send_time {
            store(out, self.send_time, time.to_bytes());
        }
        if let Some(seq) = stamps.transport_cc {
            store(out, self.transport_cc, seq.to_be_bytes());
        }
    }
}

/// Stores a value where it begins, if there is such a place.
#[inline]
fn store<const N: usize>(out: &mut [u8; MAX_HEADER_LEN], at: u8, value: [u8; N]) {
    let place = out.get_mut(usize::from(at)..).and_then(<[u8]>::first_chunk_mut);
    if let Some(place) = place.filter(|_| at != 0) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use arrayvec::ArrayVec;

    use super::*;
    use crate::rtp::ext::{AbsSendTime, AudioLevel, VideoOrientation};
    use crate::rtp::packet::RtpView;
    use crate::rtp::params::{ExtensionMap, Mid};
    use crate::track::testing::facts;
    use crate::units::MediaKind;

    fn params(extensions: &[Extension]) -> SendParams {
        let mut map = ExtensionMap::default();
        for (id, &extension) in (1..).zip(extensions) {
            assert!(map.insert(id, extension));
        }
        SendParams {
            mid: Mid::new("0123456789abcdef").unwrap(),
            kind: MediaKind::Video,
            codecs: ArrayVec::new(),
            extensions: map,
            ssrc: Ssrc(7),
            rtx_ssrc: None,
        }
    }

    /// What the general writer makes of it.
    fn expected(params: &SendParams, header: &Header, facts: &PacketFacts, stamps: Stamps) -> Vec<u8> {
        let mut out = vec![0; 200];
        let mut writer = HeaderWriter::new(&mut out, header).unwrap();
        let values = [
            (Extension::Mid, stamps.mid.then(|| params.mid.as_bytes().to_vec())),
            (Extension::AudioLevel, facts.audio_level.map(|level| level.to_bytes().to_vec())),
            (Extension::VideoOrientation, facts.orientation.map(|value| value.to_bytes().to_vec())),
            (Extension::AbsSendTime, stamps.send_time.map(|time| time.to_bytes().to_vec())),
            (Extension::TransportCc, stamps.transport_cc.map(|seq| seq.to_be_bytes().to_vec())),
        ];
        for (extension, value) in values {
            if let (Some(id), Some(value)) = (params.extensions.id(extension), value) {
                writer.extension(id, &value).unwrap();
            }
        }
        let len = writer.finish();
        out.truncate(len);
        out
    }

    #[test]
    fn every_form_of_header_is_what_the_general_writer_writes() {
        let agreed = [
            &[][..],
            &[Extension::Mid],
            &[Extension::TransportCc, Extension::AudioLevel],
            &[Extension::AbsSendTime, Extension::Mid, Extension::VideoOrientation],
            &Extension::ALL,
        ];
        let header =
            Header { marker: true, pt: 111, seq: 0xfffe, timestamp: 0x1234_5678, ssrc: Ssrc(0xabcd) };
        for extensions in agreed {
            let params = params(extensions);
            let mut headers = Headers::new(&params);
            for form in (0..Form::ALL as u8).chain([0, 7, 1]).map(Form) {
                let level = AudioLevel { voice: true, level: 33 };
                let orientation = VideoOrientation { back_camera: true, flip: false, quarter_turns: 1 };
                let facts = PacketFacts {
                    audio_level: form.has(Form::AUDIO_LEVEL).then_some(level),
                    orientation: form.has(Form::ORIENTATION).then_some(orientation),
                    ..facts(1, 2)
                };
                let stamps = Stamps {
                    mid: form.has(Form::MID),
                    transport_cc: headers.counts().then_some(0x0102),
                    send_time: headers.tells_time().then(|| AbsSendTime::parse(&[1, 2, 3]).unwrap()),
                };
                let expected = expected(&params, &header, &facts, stamps);
                assert_eq!(headers.len(&facts, stamps.mid), expected.len());
                for room in [expected.len(), MAX_HEADER_LEN, 100] {
                    let mut out = vec![0xee; room];
                    let len = headers.write(&params, &header, &facts, stamps, &mut out);
                    assert_eq!(len, Some(expected.len()), "{form:?} of {extensions:?}");
                    assert_eq!(out[..expected.len()], expected, "{form:?} of {extensions:?}");
                }
                let mut short = vec![0; expected.len() - 1];
                assert_eq!(headers.write(&params, &header, &facts, stamps, &mut short), None);
                if form == Form::bare(stamps.mid) {
                    let mut bare = vec![0; headers.bare_len(stamps.mid)];
                    assert_eq!(headers.write_bare(&params, &header, stamps, &mut bare), Some(bare.len()));
                    assert_eq!(bare, expected);
                    assert_eq!(headers.write_bare(&params, &header, stamps, &mut short), None);
                }
                assert_eq!(RtpView::parse(&expected).unwrap().header(), header);
            }
        }
    }
}
