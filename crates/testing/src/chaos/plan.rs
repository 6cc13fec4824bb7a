//! When the program is killed: at random moments, as it starts, as it has just accepted a message, and at every
//! failpoint.

use std::time::Duration;

use platform::faults::POINTS;

use super::random::Random;

/// Kills in a hundred at failpoints, as an answer arrives, and while the program starts. The rest are at random.
const AT_POINTS: u32 = 55;
const AT_ACCEPTED: u32 = 12;
const AT_START: u32 = 5;

/// The latest random moment after the program is ready, and after it was started.
const RANDOM_MS: u64 = 1_500;
const STARTING_MS: u64 = 400;

/// Failpoints that are passed seldom: there, only the first passes are waited for.
const SELDOM: [&str; 5] =
    ["message_before_commit", "message_committed", "run_claimed", "finish_before_commit", "finish_committed"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    /// This long after the process was started, ready or not.
    Starting(Duration),
    /// This long after it was ready.
    Random(Duration),
    /// As soon as a client has the n-th 202 from now on.
    Accepted(u64),
    /// As the process passes a failpoint for the n-th time.
    Point(&'static str, u64),
}

impl Moment {
    /// What the kill is counted under.
    pub(super) fn place(&self) -> &'static str {
        match self {
            Self::Starting(_) => "while starting",
            Self::Random(_) => "at random",
            Self::Accepted(_) => "after a 202",
            Self::Point(name, _) => name,
        }
    }

    /// The points at a turn's other ends are passed only by runs that don't complete.
    pub(super) fn wants_cancels(&self) -> bool {
        matches!(self, Self::Point(name, _) if name.starts_with("finish"))
    }
}

pub(super) fn plan(kills: u32, random: &mut Random) -> Vec<Moment> {
    let share = |percent: u32| (kills * percent).div_ceil(100);
    let mut points = POINTS.to_vec();
    random.shuffle(&mut points);
    let mut moments: Vec<Moment> = Vec::new();
    for (_, name) in (0..share(AT_POINTS)).zip(points.iter().cycle()) {
        let passes = if SELDOM.contains(name) { 2 } else { 6 };
        moments.push(Moment::Point(name, 1 + random.below(passes)));
    }
    moments.extend((0..share(AT_ACCEPTED)).map(|_| Moment::Accepted(1 + random.below(4))));
    moments.extend((0..share(AT_START)).map(|_| Moment::Starting(random.millis_below(STARTING_MS))));
    while moments.len() < kills as usize {
        moments.push(Moment::Random(random.millis_below(RANDOM_MS)));
    }
    random.shuffle(&mut moments);
    moments.truncate(kills as usize);
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_plan_and_every_point_is_in_a_long_one() {
        let moments = plan(300, &mut Random::new(7));
        assert_eq!(moments, plan(300, &mut Random::new(7)));
        assert_ne!(moments, plan(300, &mut Random::new(8)));
        assert_eq!(moments.len(), 300);
        for point in POINTS {
            let times = moments.iter().filter(|moment| moment.place() == *point).count();
            assert!(times >= 10, "{point} is in the plan {times} times");
        }
        assert_eq!(plan(0, &mut Random::new(7)), []);
        assert_eq!(plan(1, &mut Random::new(7)).len(), 1);
    }
}
