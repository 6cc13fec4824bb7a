//! When the program is killed: at random moments, as it starts, as it has just accepted a message, and at every
//! failpoint. `plan_cluster` has the plans for a cluster.

use std::time::Duration;

use platform::faults::POINTS;

use super::{
    random::Random,
    topology::{Engine, Role, Victim},
};

/// Kills in a hundred at failpoints, as an answer arrives, and while the program starts. The rest are at random.
const AT_POINTS: u32 = 60;
const AT_ACCEPTED: u32 = 12;
const AT_START: u32 = 5;

/// The latest random moment after the program is ready, and after it was started.
const RANDOM_MS: u64 = 1_500;
const STARTING_MS: u64 = 400;

/// Failpoints that are passed seldom: there, only the first passes are waited for.
const SELDOM: [&str; 9] = [
    "message_before_commit",
    "message_committed",
    "run_claimed",
    "approval_before_request",
    "approval_requested",
    "decision_before_commit",
    "decision_committed",
    "finish_before_commit",
    "finish_committed",
];

/// With a Temporal server: one kill in so many is the server's, and the gateway's.
const SERVER_ONE_IN: u32 = 12;
const GATEWAY_ONE_IN: u32 = 4;
/// Of the gateway's kills, and of the worker's, those in a hundred at failpoints.
const STINT_AT_POINTS: u32 = 70;
/// The latest random moment: where the only worker is killed its runs stand still for seconds, and a kill then proves
/// little.
const WORKER_RANDOM_MS: u64 = 11_000;
const ONE_OF_SEVERAL_RANDOM_MS: u64 = 3_000;
const GATEWAY_RANDOM_MS: u64 = 2_500;
pub(super) const SERVER_RANDOM_MS: u64 = 4_000;

/// A kill that is to come.
pub(super) type Planned = (Victim, Moment);

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

/// What a kill is counted under.
pub(super) fn place(victim: Victim, moment: &Moment) -> String {
    match (victim, moment) {
        (Victim::Program, _) | (_, Moment::Point(..)) => moment.place().to_owned(),
        (Victim::Engine(_) | Victim::Paused(..), _) => victim.to_string(),
        _ => format!("{victim} {}", moment.place()),
    }
}

/// Kills of the one process.
pub(super) fn standalone(kills: u32, random: &mut Random) -> Vec<Planned> {
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
    moments.into_iter().map(|moment| (Victim::Program, moment)).collect()
}

/// Kills of gateway, worker and server. A process is armed as it starts, so that kills at failpoints follow another
/// kill of the same process.
pub(super) fn temporal(kills: u32, random: &mut Random) -> Vec<Planned> {
    let (server, gateway) = (kills / SERVER_ONE_IN, kills / GATEWAY_ONE_IN);
    let mut stints: Vec<Vec<Planned>> = Vec::new();
    for _ in 0..server {
        stints.push(vec![(
            Victim::Engine(Engine::Temporal),
            Moment::Random(random.millis_below(SERVER_RANDOM_MS)),
        )]);
    }
    stints.extend(stints_of(Victim::Process(Role::Gateway, 0), gateway, random));
    stints.extend(stints_of(Victim::Process(Role::Worker, 0), kills - server - gateway, random));
    random.shuffle(&mut stints);
    stints.concat()
}

/// Whether processes of this kind pass a failpoint.
fn passes(role: Role, point: &str) -> bool {
    let at = match point.split('_').next() {
        Some("message" | "decision") => [Role::Gateway, Role::Gateway],
        Some("tool" | "approval") => [Role::Worker, Role::Tools],
        _ => [Role::Worker, Role::Turns],
    };
    at.contains(&role)
}

/// Kills of a process, some of them at failpoints, each of which follows another kill of it.
pub(super) fn stints_of(victim: Victim, kills: u32, random: &mut Random) -> Vec<Vec<Planned>> {
    let of_it = |point: &&str| matches!(victim, Victim::Process(role, _) if passes(role, point));
    let mut points: Vec<&'static str> = POINTS.iter().copied().filter(of_it).collect();
    random.shuffle(&mut points);
    let at_points = if points.is_empty() { 0 } else { kills * STINT_AT_POINTS / 100 };
    let mut stints: Vec<Vec<Planned>> = Vec::new();
    for index in 0..kills - at_points {
        let first = match victim {
            Victim::Process(Role::Gateway, _) if index % 2 == 0 => Moment::Accepted(1 + random.below(3)),
            Victim::Process(Role::Gateway, _) => Moment::Random(random.millis_below(GATEWAY_RANDOM_MS)),
            Victim::Process(Role::Worker, _) => Moment::Random(random.millis_below(WORKER_RANDOM_MS)),
            _ => Moment::Random(random.millis_below(ONE_OF_SEVERAL_RANDOM_MS)),
        };
        stints.push(vec![(victim, first)]);
    }
    for (index, name) in (0..at_points as usize).zip(points.iter().cycle()) {
        let passes = if SELDOM.contains(name) { 1 } else { 4 };
        let many = stints.len();
        stints[index % many].push((victim, Moment::Point(name, 1 + random.below(passes))));
    }
    stints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_server_every_process_and_every_point_has_its_kills() {
        let planned = temporal(60, &mut Random::new(7));
        assert_eq!(planned, temporal(60, &mut Random::new(7)));
        let many = |victim| planned.iter().filter(|(killed, _)| *killed == victim).count();
        assert_eq!(
            [
                Victim::Engine(Engine::Temporal),
                Victim::Process(Role::Gateway, 0),
                Victim::Process(Role::Worker, 0)
            ]
            .map(many),
            [5, 15, 40]
        );
        for point in POINTS {
            let times = planned
                .iter()
                .filter(|(_, moment)| matches!(moment, Moment::Point(name, _) if name == point));
            assert!(times.count() >= 2, "{point}");
        }
        for kills in 0..20 {
            assert_eq!(temporal(kills, &mut Random::new(1)).len(), kills as usize);
        }
    }

    #[test]
    fn a_seed_repeats_its_plan_and_every_point_is_in_a_long_one() {
        let moments = standalone(300, &mut Random::new(7));
        assert_eq!(moments, standalone(300, &mut Random::new(7)));
        assert_ne!(moments, standalone(300, &mut Random::new(8)));
        assert_eq!(moments.len(), 300);
        for point in POINTS {
            let times = moments.iter().filter(|(_, moment)| moment.place() == *point).count();
            assert!(times >= 10, "{point} is in the plan {times} times");
        }
        assert_eq!(standalone(0, &mut Random::new(7)), []);
        assert_eq!(standalone(1, &mut Random::new(7)).len(), 1);
    }
}
