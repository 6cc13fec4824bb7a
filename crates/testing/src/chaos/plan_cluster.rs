//! When the processes and servers of a cluster are killed, and for how long its servers hang.

use std::time::Duration;

use super::{
    options::Scenario,
    plan::{Moment, Planned, SERVER_RANDOM_MS, stints_of},
    random::Random,
    topology::{Engine, Role, Victim},
};

/// Of all kills, those in a hundred that are of servers, where both are killed.
const SERVERS_PERCENT: u32 = 50;
/// How long a server hangs: longer than anything here waits for an answer and shorter than a call, and longer than it
/// takes to give up on somebody.
const PAUSES_S: [u64; 2] = [5, 30];
/// Kills in twenty of each kind of process; the rest are of gateways.
const OF_TWENTY: [(Role, usize, u32); 3] = [(Role::Turns, 2, 5), (Role::Tools, 2, 8), (Role::Events, 1, 2)];
const GATEWAYS: usize = 2;
/// PostgreSQL is up for so long between two restarts.
const UP_MS: (u64, u64) = (5_000, 40_000);

pub(super) fn plan(scenario: Scenario, kills: u32, random: &mut Random) -> Vec<Planned> {
    let mut stints = match scenario {
        Scenario::Mixed => {
            let many = kills * SERVERS_PERCENT / 100;
            // The long pause would be most of the time.
            let mut stints = servers(many, &PAUSES_S[..1], random);
            stints.extend(processes(kills - many, random));
            stints
        }
        Scenario::Processes => processes(kills, random),
        Scenario::Engines => servers(kills, &PAUSES_S, random),
        Scenario::Restarts => restarts(kills, random),
    };
    random.shuffle(&mut stints);
    stints.concat()
}

/// Each server is killed, and hangs for each of these times, as often as any other.
fn servers(many: u32, pauses_s: &[u64], random: &mut Random) -> Vec<Vec<Planned>> {
    let what = |engine| {
        let pauses = pauses_s.iter().map(move |&seconds| Victim::Paused(engine, seconds));
        pauses.chain([Victim::Engine(engine)])
    };
    let all: Vec<Victim> = Engine::ALL.into_iter().flat_map(what).collect();
    let each = (0..many).zip(all.iter().cycle());
    each.map(|(_, victim)| vec![(*victim, Moment::Random(random.millis_below(SERVER_RANDOM_MS)))]).collect()
}

fn processes(kills: u32, random: &mut Random) -> Vec<Vec<Planned>> {
    let workers = OF_TWENTY.map(|(role, processes, share)| (role, processes, kills * share / 20));
    let gateways = kills - workers.iter().map(|(_, _, many)| many).sum::<u32>();
    let all = workers.into_iter().chain([(Role::Gateway, GATEWAYS, gateways)]);
    let mut stints = Vec::new();
    for (role, processes, many) in all {
        // Its first process has what does not divide.
        let each = many / u32::try_from(processes).unwrap_or(1);
        for number in (0..processes).rev() {
            let others = each * u32::try_from(processes - 1).unwrap_or(0);
            let own = if number == 0 { many - others } else { each };
            stints.extend(stints_of(Victim::Process(role, number), own, random));
        }
    }
    stints
}

fn restarts(kills: u32, random: &mut Random) -> Vec<Vec<Planned>> {
    let (least, most) = UP_MS;
    let after = |random: &mut Random| Duration::from_millis(least) + random.millis_below(most - least);
    (0..kills).map(|_| vec![(Victim::Engine(Engine::Postgres), Moment::Random(after(random)))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Scenario; 4] = [Scenario::Mixed, Scenario::Processes, Scenario::Engines, Scenario::Restarts];

    fn many(planned: &[Planned], victim: Victim) -> usize {
        planned.iter().filter(|(killed, _)| *killed == victim).count()
    }

    #[test]
    fn a_seed_repeats_its_plan_which_has_as_many_kills_as_were_asked_for() {
        for scenario in ALL {
            let planned = plan(scenario, 80, &mut Random::new(7));
            assert_eq!(planned, plan(scenario, 80, &mut Random::new(7)));
            for kills in 0..20 {
                let planned = plan(scenario, kills, &mut Random::new(1));
                assert_eq!(planned.len(), kills as usize, "{scenario:?}");
            }
        }
    }

    #[test]
    fn every_server_is_killed_and_hangs_as_often_as_any_other() {
        let planned = plan(Scenario::Engines, 180, &mut Random::new(7));
        for engine in Engine::ALL {
            let victims = [Victim::Engine(engine), Victim::Paused(engine, 5), Victim::Paused(engine, 30)];
            assert_eq!(victims.map(|victim| many(&planned, victim)), [10; 3], "{engine}");
        }
    }

    #[test]
    fn every_process_is_killed_and_at_every_failpoint() {
        let planned = plan(Scenario::Processes, 500, &mut Random::new(7));
        let of = |role, number| many(&planned, Victim::Process(role, number));
        assert_eq!([of(Role::Gateway, 0), of(Role::Gateway, 1)], [63, 62]);
        assert_eq!([of(Role::Turns, 0), of(Role::Turns, 1)], [63, 62]);
        assert_eq!([of(Role::Tools, 0), of(Role::Tools, 1)], [100, 100]);
        assert_eq!(of(Role::Events, 0), 50);
        for point in platform::faults::POINTS {
            let at = |(_, moment): &&Planned| matches!(moment, Moment::Point(name, _) if name == point);
            assert!(planned.iter().filter(at).count() >= 10, "{point}");
        }
    }

    #[test]
    fn postgres_is_up_for_five_to_forty_seconds() {
        let planned = plan(Scenario::Restarts, 200, &mut Random::new(7));
        for (victim, moment) in planned {
            let Moment::Random(after) = moment else { panic!("{moment:?}") };
            assert_eq!(victim, Victim::Engine(Engine::Postgres));
            assert!((5_000..=40_000).contains(&after.as_millis()), "{after:?}");
        }
    }
}
