//! What a run of a scenario comes to.

use serde::Serialize;

use super::expect::Miss;
use super::scenario::Scenario;

/// One run. Shares are 0..1, times milliseconds or, in names that end in `_s`, seconds. Without a lesson, what is
/// said of it is not a number: `null` in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// The scenario.
    pub id: String,
    /// Its group.
    pub group: String,
    /// Its seed.
    pub seed: u64,
    /// Goodput by the link's mean capacity.
    pub util: f64,
    /// Goodput by that of the best constant set of layers.
    pub util_oracle: f64,
    /// 95th percentile of the time that packets wait in the link's queue.
    pub q95: f64,
    /// Median of it.
    pub q50: f64,
    /// Changes of layer a minute, spatial and temporal, pauses included.
    pub sw_min: f64,
    /// Sound lost or later than 400 ms, beyond what the path itself loses.
    pub aloss: f64,
    /// Share of seconds in which the lesson was usable.
    pub usable: f64,
    /// Freezes of the teacher's picture a minute.
    pub freezes_min: f64,
    /// Share of seconds in which packets waited longer than 400 ms.
    pub bad_s: f64,
    /// Sound concealed by the receiver, of all.
    pub concealed: f64,
    /// The longest time without sound.
    pub audio_gap_ms: f64,
    /// Sound as sent, kbit/s on the wire.
    pub audio_kbps: f64,
    /// Pictures as sent, kbit/s on the wire.
    pub video_kbps: f64,
    /// Useful packets that arrived, kbit/s on the wire.
    pub goodput_kbps: f64,
    /// The best constant set of layers, kbit/s on the wire.
    pub oracle_kbps: f64,
    /// Packets that the link's queue dropped, of all; without a lesson, packets of elastic flows that did not arrive.
    pub dropped: f64,
    /// Seconds from a page turn until it is seen, 95th percentile; `None` where no page ever came.
    pub page95_s: Option<f64>,
    /// Seconds from the return of capacity until the layers from before are back.
    pub recover_s: Option<f64>,
    /// Seconds from the end of an outage to fresh sound.
    pub audio_back_s: Option<f64>,
    /// Seconds from the end of an outage to a slide captured after it.
    pub slides_back_s: Option<f64>,
    /// Jain's index of the receivers' goodput, or of the elastic flows' while all of them send.
    pub jain: f64,
    /// Share of seconds in which the first receiver's slides were current.
    pub receiver0_slides: f64,
    /// Whether all bars hold; `None` in groups without bars.
    pub pass: Option<bool>,
    /// The bars that do not.
    pub misses: Vec<Miss>,
    /// Flows besides lessons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<FlowFigures>,
}

/// What became of a flow's packets from its source to its sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FlowFigures {
    /// As the scenario says it.
    pub flow: String,
    /// What arrived, kbit/s on the wire while it could send.
    pub kbps: f64,
    /// Packets that did not, of all.
    pub loss: f64,
    /// 95th percentile of their time in the link's queue.
    pub q95: f64,
}

impl Row {
    /// A row that says nothing yet of anything but lessons.
    pub fn without_lesson(scenario: &Scenario, seed: u64) -> Self {
        Self {
            id: scenario.id.clone(),
            group: scenario.group.clone(),
            seed,
            util_oracle: f64::NAN,
            sw_min: f64::NAN,
            aloss: f64::NAN,
            usable: f64::NAN,
            freezes_min: f64::NAN,
            concealed: f64::NAN,
            audio_gap_ms: f64::NAN,
            audio_kbps: f64::NAN,
            video_kbps: f64::NAN,
            oracle_kbps: f64::NAN,
            receiver0_slides: f64::NAN,
            ..Self::default()
        }
    }

    /// Whether there was a lesson.
    pub fn has_lesson(&self) -> bool {
        !self.usable.is_nan()
    }
}
