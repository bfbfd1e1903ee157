//! What the client was asked for: each missing m-line once, however often subscriptions change meanwhile.

/// That the client should offer again, with this many more receiving lines of each kind. Both zero: the lines
/// that it has suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Needed {
    /// Audio m-lines.
    pub audios: u32,
    /// Video m-lines.
    pub videos: u32,
}

/// What was asked for and has not come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request {
    lines: Needed,
    /// An offer, since the last one.
    offer: bool,
}

impl Request {
    /// What to ask for beyond what was asked, where `missing` lines are missing in all; at most `room` lines can
    /// still be added. `worthwhile`: an offer would change something even without further lines.
    pub(super) fn ask(&mut self, missing: Needed, room: u32, worthwhile: bool) -> Option<Needed> {
        let room = room.saturating_sub(self.lines.audios + self.lines.videos);
        let audios = missing.audios.saturating_sub(self.lines.audios).min(room);
        let videos = missing.videos.saturating_sub(self.lines.videos).min(room - audios);
        if audios + videos == 0 && (self.offer || !worthwhile) {
            return None;
        }
        self.lines.audios += audios;
        self.lines.videos += videos;
        self.offer = true;
        Some(Needed { audios, videos })
    }

    /// An offer came, and these lines with it: perhaps not yet those that were asked for, if the two crossed.
    pub(super) fn offered(&mut self, added: Needed) {
        self.offer = false;
        self.lines.audios = self.lines.audios.saturating_sub(added.audios);
        self.lines.videos = self.lines.videos.saturating_sub(added.videos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn lines(audios: u32, videos: u32) -> Needed {
        Needed { audios, videos }
    }

    #[test]
    fn a_missing_line_is_asked_for_once_until_it_comes() {
        let mut request = Request::default();
        assert_eq!(request.ask(lines(0, 0), 9, false), None);
        assert_eq!(request.ask(lines(2, 0), 9, false), Some(lines(2, 0)));
        assert_eq!(request.ask(lines(2, 0), 9, false), None);
        assert_eq!(request.ask(lines(3, 1), 9, false), Some(lines(1, 1)));
        request.offered(lines(0, 0));
        assert_eq!(request.ask(lines(3, 1), 9, false), None, "the offer crossed the request");
        request.offered(lines(3, 1));
        assert_eq!(request.ask(lines(1, 0), 9, false), Some(lines(1, 0)));
    }

    #[test]
    fn an_offer_alone_is_asked_for_once() {
        let mut request = Request::default();
        assert_eq!(request.ask(lines(0, 0), 9, true), Some(lines(0, 0)));
        assert_eq!(request.ask(lines(0, 0), 9, true), None);
        request.offered(lines(0, 0));
        assert_eq!(request.ask(lines(0, 0), 9, true), Some(lines(0, 0)));
    }

    #[test]
    fn no_more_lines_are_asked_for_than_there_is_room() {
        let mut request = Request::default();
        assert_eq!(request.ask(lines(3, 3), 5, false), Some(lines(3, 2)));
        assert_eq!(request.ask(lines(3, 3), 5, false), None);
    }
}
