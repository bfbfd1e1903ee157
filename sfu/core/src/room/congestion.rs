//! Congestion control of the links to receivers: what leaves and what they say of it reaches each link's control,
//! and the pacer follows what that reckons with.

use std::time::{Duration, Instant};

use super::link::{Link, Queued};
use super::participant::Participant;
use super::room::{ParticipantKey, Room};
use super::subscription::DownKey;
use crate::cc::link_control::{LinkControl, Pace};
use crate::cc::link_estimator::Method;
use crate::cc::link_monitor::LinkState;
use crate::cc::pacer::Priority;
use crate::cc::twcc::FeedbackView;
use crate::rtp::params::Extension;
use crate::rtp::rtcp::TransportFeedback;
use crate::units::Bitrate;

impl Room {
    /// A link gets a control with its first subscription that counts transport-wide: others need none.
    pub(super) fn control_link(&mut self, now: Instant, down: DownKey) {
        let Some(subscription) = self.downs.get(down) else { return };
        if subscription.down.params().extensions.id(Extension::TransportCc).is_none() {
            return;
        }
        let Some(config) = self.config.link else { return };
        let link = &mut self.participants[subscription.to].link;
        link.control.get_or_insert_with(|| Box::new(LinkControl::new(config, now)));
        if config.method == Method::Monitored {
            link.lesson.get_or_insert_default();
        }
    }

    /// A receiver says what arrived.
    pub(super) fn on_transport_feedback(
        &mut self,
        now: Instant,
        from: ParticipantKey,
        feedback: &TransportFeedback<'_>,
    ) {
        let Some(Participant { link, .. }) = self.participants.get_mut(from) else { return };
        let (Ok(feedback), Some(control)) = (FeedbackView::parse(feedback), &mut link.control) else {
            self.stats.rtcp_foreign += 1;
            return;
        };
        control.on_feedback(now, &feedback);
        link.follow(now);
        self.allocate_in_turn(now, from);
        self.probe(now, from);
    }

    /// Lets the controls' time pass, once that is due.
    pub(super) fn tick_links(&mut self, now: Instant) {
        if self.links_due.is_none_or(|due| due > now) {
            return;
        }
        let links = self.participants.values_mut().map(|participant| &mut participant.link);
        self.links_due = links.filter_map(|link| link.tick(now)).min();
        // Of an outage no feedback tells, nor where nothing is sent.
        let links = self.participants.iter().map(|(key, participant)| (key, &participant.link));
        let silent = links.filter(|(_, link)| link.is_out() || link.is_stuck());
        for (key, stuck) in silent.map(|(key, link)| (key, link.is_stuck())).collect::<Vec<_>>() {
            self.allocate_in_turn(now, key);
            if stuck {
                self.probe(now, key);
            }
        }
    }

    /// What is known of the link to a participant, where it is controlled.
    pub fn link(&self, participant: ParticipantKey) -> Option<LinkFigures> {
        let control = self.participants.get(participant)?.link.control.as_deref()?;
        let monitor = control.monitor();
        Some(LinkFigures {
            estimate: control.estimate(),
            sending: control.sending(),
            acked: monitor.acked(),
            queue: monitor.queue(),
            loss: monitor.loss(),
            shown: monitor.ceiling(),
            state: monitor.state(),
        })
    }
}

/// How often a link that nothing leaves on is looked at.
const STUCK: Duration = Duration::from_secs(1);

/// What is known of the link to a receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkFigures {
    /// What to reckon with.
    pub estimate: Bitrate,
    /// What left in the last second.
    pub sending: Bitrate,
    /// What arrived in a second, by the last feedback.
    pub acked: Bitrate,
    /// How long packets wait on the way at least.
    pub queue: Duration,
    /// The share of packets lost of the last two seconds.
    pub loss: f64,
    /// What bursts have shown it to carry lately.
    pub shown: Option<Bitrate>,
    /// Where it stands.
    pub state: LinkState,
}

impl Link {
    /// Lets the control's time pass. Returns when it is due again.
    fn tick(&mut self, now: Instant) -> Option<Instant> {
        let control = self.control.as_mut()?;
        if control.poll_timeout().is_some_and(|due| due <= now) {
            control.handle_timeout(now);
            self.follow(now);
        }
        let stuck = self.is_stuck().then(|| now + STUCK);
        self.control.as_ref()?.poll_timeout().or(stuck)
    }

    /// Whether nothing comes through.
    fn is_out(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.state() == LinkState::Outage)
    }

    /// Whether nothing leaves as it is not believed to carry what is wanted: it would never show that it does.
    pub(super) fn is_stuck(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.poll_timeout().is_none())
            && self.lesson.as_ref().is_some_and(|lesson| lesson.allocator.next_need().is_some())
    }

    /// The pacer follows the estimate, once there is more than a guess.
    pub(super) fn follow(&mut self, now: Instant) {
        let has_left = self.pacer.len_of(Priority::Probe) == 0;
        if self.probing.take_if(|probing| has_left || now >= probing.until).is_some() {
            // What did not leave in time measures nothing any more.
            self.pacer.retain(|item| !matches!(item, Queued::Own { packet, .. } if packet.padding_len() > 0));
        }
        if let Some(Pace { rate, burst }) = self.control.as_ref().and_then(|control| control.pace()) {
            let probing = self.probing.map_or(Bitrate::ZERO, |probing| probing.rate);
            self.pacer.set_rate(now, rate.max(probing));
            self.pacer.set_burst(burst);
        }
    }
}
