//! What would be best at a budget: tiers in strict order, each filled before the next begins, and what is left
//! over to whatever gains most for its bits.

use super::ladder::{Ladder, Step, lines};
use crate::units::Bitrate;

/// What a picture is to the lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Slides, or a shared screen.
    Slides,
    /// The teacher's camera.
    TeacherCamera,
    /// The camera of a pupil or class that has the floor.
    SpeakerCamera,
    /// Anybody else's.
    OtherCamera,
}

/// A picture that a link may carry.
#[derive(Clone, Debug)]
pub struct Picture<K> {
    /// What names it to the caller.
    pub key: K,
    /// What it is to the lesson.
    pub role: Role,
    /// Among those of one role: the lower comes first; then the order in which they are given.
    pub priority: u16,
    /// What it may be sent at. Empty: nothing of it is wanted, or there is nothing.
    pub ladder: Ladder,
}

/// How much of its picture each gets: 0 nothing, `n` the `n`-th step of its ladder.
pub(super) type Levels = Vec<usize>;

/// The first step that a budget did not suffice for: of which picture, and what it adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) picture: usize,
    pub(super) adds: Bitrate,
}

/// Fills `levels` with what is best at a budget for pictures.
pub(super) fn fill<K>(budget: Bitrate, pictures: &[Picture<K>], levels: &mut Levels) -> Option<Refused> {
    levels.clear();
    levels.resize(pictures.len(), 0);
    let mut filling = Filling { left: budget.as_bps(), levels, refused: None };
    for tier in &TIERS {
        for index in of_role(pictures, tier.role) {
            let Picture { role, ladder, .. } = &pictures[index];
            filling.begin(*role, index, ladder);
            filling.raise_to((tier.goal)(ladder), index, ladder);
        }
        let unreadable = |(picture, &level): (&Picture<K>, &usize)| {
            picture.role == Role::Slides && level == 0 && !picture.ladder.is_empty()
        };
        if tier.role == Role::Slides && pictures.iter().zip(filling.levels.iter()).any(unreadable) {
            // Faces do not run while slides are missing.
            return filling.refused;
        }
    }
    filling.spend_the_rest(pictures);
    filling.refused
}

/// The pictures as the tiers come to them, and the level up to which each raises them; at last all of them.
pub(super) fn in_order<K>(pictures: &[Picture<K>]) -> impl Iterator<Item = (usize, usize)> {
    let goals = |tier: &'static Tier| {
        of_role(pictures, tier.role).map(|index| (index, (tier.goal)(&pictures[index].ladder)))
    };
    let all = ascending(pictures, |picture| Some((picture.role, picture.priority)));
    TIERS.iter().flat_map(goals).chain(all.map(|index| (index, pictures[index].ladder.len())))
}

/// The pictures of a role, in their order.
fn of_role<K>(pictures: &[Picture<K>], role: Role) -> impl Iterator<Item = usize> {
    ascending(pictures, move |picture| (picture.role == role).then_some(picture.priority))
}

/// Those pictures that have a rank, by it and then in the order in which they are given.
pub(super) fn ascending<K, R: Ord + Copy>(
    pictures: &[Picture<K>],
    rank: impl Fn(&Picture<K>) -> Option<R>,
) -> impl Iterator<Item = usize> {
    let mut last = None;
    // Few, and mostly in order: looking for the next is cheaper than sorting them, and needs no memory.
    std::iter::from_fn(move || {
        let ranked = (0..).zip(pictures).filter_map(|(index, picture)| Some((rank(picture)?, index)));
        last = Some(ranked.filter(|&place| last.is_none_or(|last| place > last)).min()?);
        last.map(|(_, index)| index)
    })
}

struct Tier {
    role: Role,
    /// The level that the tier raises pictures of its role to.
    goal: fn(&Ladder) -> usize,
}

static TIERS: [Tier; 6] = [
    Tier { role: Role::Slides, goal: lowest },
    Tier { role: Role::TeacherCamera, goal: lowest },
    Tier { role: Role::SpeakerCamera, goal: lowest },
    Tier { role: Role::TeacherCamera, goal: middle },
    Tier { role: Role::Slides, goal: |ladder| ladder.len() },
    Tier { role: Role::OtherCamera, goal: lowest },
];

fn lowest(ladder: &Ladder) -> usize {
    ladder.len().min(1)
}

/// A face that can be read: 360 lines at 15 fps.
fn middle(ladder: &Ladder) -> usize {
    let small = |step: &Step| step.size.is_none_or(|size| lines(size) <= 360) && step.fps <= 20;
    ladder.iter().rposition(small).map_or(lowest(ladder), |index| index + 1)
}

struct Filling<'a> {
    left: u64,
    levels: &'a mut Levels,
    refused: Option<Refused>,
}

impl Filling<'_> {
    /// Slides begin where most of what they take in bursts fits: a page that comes late is better than none.
    fn begin(&mut self, role: Role, picture: usize, ladder: &Ladder) {
        if role == Role::Slides && self.levels[picture] == 0 && !ladder.is_empty() {
            let adds = adds(ladder, 0);
            if adds * 7 / 10 <= self.left {
                self.left = self.left.saturating_sub(adds);
                self.levels[picture] = 1;
            }
        }
    }

    /// Raises a picture, as far as the budget goes.
    fn raise_to(&mut self, goal: usize, picture: usize, ladder: &Ladder) {
        while self.levels[picture] < goal && self.raise(picture, ladder) {}
    }

    fn raise(&mut self, picture: usize, ladder: &Ladder) -> bool {
        let adds = adds(ladder, self.levels[picture]);
        if adds > self.left {
            self.refused.get_or_insert(Refused { picture, adds: Bitrate::bps(adds) });
            return false;
        }
        self.left -= adds;
        self.levels[picture] += 1;
        true
    }

    /// Raises all by a step in turn, until none fits. A picture whose next step does not fit stays.
    fn spend_the_rest<K>(&mut self, pictures: &[Picture<K>]) {
        let mut stays = vec![false; pictures.len()];
        while stays.contains(&false) {
            for index in ascending(pictures, |picture| Some((picture.role, picture.priority))) {
                let ladder = &pictures[index].ladder;
                let more = !stays[index] && self.levels[index] < ladder.len();
                stays[index] = !(more && self.raise(index, ladder));
            }
        }
    }
}

/// What the step from `level` to the next costs.
pub(super) fn adds(ladder: &Ladder, level: usize) -> u64 {
    ladder[level].cost.as_bps() - cost(ladder, level).as_bps()
}

/// What a level costs.
pub(super) fn cost(ladder: &Ladder, level: usize) -> Bitrate {
    level.checked_sub(1).map_or(Bitrate::ZERO, |index| ladder[index].cost)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{camera_of, slides_of};
    use super::*;
    use crate::testing::Random;

    fn lesson() -> Vec<Picture<u8>> {
        vec![
            camera_of(0, Role::OtherCamera),
            slides_of(1),
            camera_of(2, Role::TeacherCamera),
            camera_of(3, Role::SpeakerCamera),
            camera_of(4, Role::OtherCamera),
        ]
    }

    fn levels(kbps: u64, pictures: &[Picture<u8>]) -> Levels {
        let mut levels = Levels::new();
        fill(Bitrate::kbps(kbps), pictures, &mut levels);
        levels
    }

    fn total(pictures: &[Picture<u8>], levels: &[usize]) -> u64 {
        pictures.iter().zip(levels).map(|(picture, &level)| cost(&picture.ladder, level).as_bps()).sum()
    }

    #[test]
    fn tiers_are_filled_in_their_order() {
        // [other, slides, teacher, speaker, other]
        for (kbps, expected, what) in [
            (34, [0, 0, 0, 0, 0], "no face while slides are missing"),
            (35, [0, 1, 0, 0, 0], "slides that can be read, if late"),
            (85, [0, 1, 0, 0, 0], "not quite a face"),
            (86, [0, 1, 1, 0, 0], "the teacher"),
            (122, [0, 1, 1, 1, 0], "who speaks"),
            (266, [0, 1, 4, 1, 0], "the teacher in 360p15"),
            (616, [0, 2, 4, 1, 0], "all of the slides"),
            (652, [1, 2, 4, 1, 0], "the first of the others"),
            (688, [1, 2, 4, 1, 1], "all of them"),
            (808, [1, 2, 5, 1, 1], "a step more for each in turn"),
            (826, [1, 2, 5, 2, 1], "a step more for each in turn"),
        ] {
            assert_eq!(levels(kbps, &lesson()), expected, "{kbps} kbit/s: {what}");
        }
    }

    #[test]
    fn without_slides_the_faces_move_up() {
        let faces: Vec<_> = lesson().into_iter().filter(|picture| picture.role != Role::Slides).collect();
        assert_eq!(levels(36, &faces), [0, 1, 0, 0]);
        assert_eq!(levels(216, &faces), [0, 4, 1, 0]);
    }

    #[test]
    fn a_higher_priority_comes_first_among_equals() {
        let mut pictures = lesson();
        pictures[0].priority = 9;
        assert_eq!(levels(652, &pictures), [0, 2, 4, 1, 1]);
    }

    #[test]
    fn more_budget_is_never_worse_and_never_overspent() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let pictures: Vec<_> = lesson().into_iter().filter(|_| random.below(4) > 0).collect();
            let mut before: Option<(u64, Vec<f64>)> = None;
            for budget in (0..4000).step_by(7) {
                let levels = levels(budget, &pictures);
                let late_slides = levels.iter().sum::<usize>() == 1;
                assert!(late_slides || total(&pictures, &levels) <= budget * 1000);
                let tiers = by_tier(&pictures, &levels);
                if let Some((less, worse)) = &before {
                    assert!(tiers >= *worse, "{less} -> {budget} kbit/s: {worse:?} -> {tiers:?}");
                }
                before = Some((budget, tiers));
            }
        }
    }

    /// What each tier has, the first first, and then who has a step more, turn by turn.
    fn by_tier(pictures: &[Picture<u8>], levels: &[usize]) -> Vec<f64> {
        let role = |role: Role| {
            let own = pictures.iter().zip(levels).filter(move |(picture, _)| picture.role == role);
            own.map(|(picture, &level)| (&picture.ladder, level))
        };
        let reached =
            |tier: &Tier| role(tier.role).map(|(ladder, level)| level.min((tier.goal)(ladder)) as f64).sum();
        let beyond = |turn: usize| {
            ascending(pictures, |picture| Some((picture.role, picture.priority))).map(move |index| {
                let Picture { role, ladder, .. } = &pictures[index];
                let own = TIERS.iter().filter(|tier| tier.role == *role);
                let named = own.map(|tier| (tier.goal)(ladder)).max().unwrap_or(0);
                f64::from(u8::from(levels[index] >= named + turn))
            })
        };
        TIERS.iter().map(reached).chain((1..8).flat_map(beyond)).collect()
    }
}
