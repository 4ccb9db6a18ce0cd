//! How many instances should wait, as a function of what there is.
//!
//! One step at a time: the caller carries it out and asks again. Whoever needs memory comes before
//! anything that waits, and only one is started at a time, so that filling the pool never takes
//! more than one processor from calls.

use std::fmt;

/// The instances of one environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Functions that could take one.
    pub(super) users: u32,
    /// How many wait.
    pub(super) ready: u32,
    /// How many are on their way.
    pub(super) starting: u32,
    /// Whether none may be started for a while: one failed, or was taken or given up just now.
    pub(super) rests: bool,
}

/// The memory that is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There may be some for another one that waits.
    Free,
    /// Instances of functions need what waiting ones have.
    Needed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start one of this kind.
    Start(usize),
    /// Stop one of this kind.
    Stop(usize, Reason),
}

/// Why one is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No function could take it.
    Unused,
    /// Its memory is needed.
    Memory,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unused => "no function needs it any more",
            Self::Memory => "its memory is needed",
        })
    }
}

/// The next step, if there is any to do. `wanted` is how many of a kind should wait.
pub(super) fn next(kinds: &[Kind], wanted: u32, room: Room) -> Option<Step> {
    let all = || kinds.iter().enumerate();
    if let Some((unused, _)) = all().find(|(_, kind)| kind.users == 0 && kind.ready > 0) {
        return Some(Step::Stop(unused, Reason::Unused));
    }
    if room == Room::Needed {
        let (most, kind) = all().max_by_key(|(_, kind)| kind.ready)?;
        return (kind.ready > 0).then_some(Step::Stop(most, Reason::Memory));
    }
    if kinds.iter().any(|kind| kind.starting > 0) {
        return None;
    }
    all()
        .filter(|(_, kind)| kind.users > 0 && kind.ready < wanted && !kind.rests)
        .min_by_key(|(_, kind)| kind.ready)
        .map(|(least, _)| Step::Start(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Kind = Kind {
        users: 1,
        ready: 0,
        starting: 0,
        rests: false,
    };

    fn ready(ready: u32) -> Kind {
        Kind { ready, ..NEEDED }
    }

    #[track_caller]
    fn check(kinds: &[Kind], room: Room, expect: Option<Step>) {
        assert_eq!(next(kinds, 2, room), expect);
    }

    #[test]
    fn what_lacks_most_is_started_first_and_one_at_a_time() {
        check(&[], Room::Free, None);
        check(&[ready(1), ready(0)], Room::Free, Some(Step::Start(1)));
        check(&[ready(1), ready(2)], Room::Free, Some(Step::Start(0)));
        check(&[ready(2), ready(2)], Room::Free, None);
        let starting = Kind {
            starting: 1,
            ..NEEDED
        };
        check(&[NEEDED, starting], Room::Free, None);
    }

    #[test]
    fn what_failed_does_not_keep_others_from_being_started() {
        let rests = Kind {
            rests: true,
            ..NEEDED
        };
        check(&[rests], Room::Free, None);
        check(&[rests, ready(1)], Room::Free, Some(Step::Start(1)));
    }

    #[test]
    fn what_nobody_uses_goes_and_is_not_started() {
        let unused = |ready| Kind {
            users: 0,
            ..self::ready(ready)
        };
        check(&[unused(0)], Room::Free, None);
        let gone = Some(Step::Stop(1, Reason::Unused));
        check(&[ready(1), unused(1)], Room::Free, gone);
        check(&[ready(1), unused(1)], Room::Needed, gone);
    }

    #[test]
    fn memory_that_is_needed_is_given_back_until_there_is_none() {
        let most = Some(Step::Stop(1, Reason::Memory));
        check(&[ready(1), ready(2), ready(0)], Room::Needed, most);
        check(&[ready(0), ready(0)], Room::Needed, None);
        check(&[], Room::Needed, None);
    }
}
