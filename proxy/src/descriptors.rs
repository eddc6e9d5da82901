//! How many files and connections the system lets this process have.

use config::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the store, the log, upstreams and whoever asks for metrics, besides one for each connection.
const BESIDES: u64 = 256;

/// Takes as many file descriptors as the system allows, and says so where those are too few for `limits`. Shells and service managers give
/// a process 1024 of many more, for the sake of programs from another century.
pub(crate) fn raise(limits: &Limits) -> Option<String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    few(if raised.is_ok() { maximum } else { current }, limits)
}

fn few(allowed: Option<u64>, limits: &Limits) -> Option<String> {
    let upstream = u64::try_from(limits.upstream_connections_max).unwrap_or(u64::MAX);
    let fills = u64::try_from(limits.fills_max).unwrap_or(u64::MAX);
    let connections = u64::try_from(limits.connections_max).unwrap_or(u64::MAX);
    let waiting = u64::try_from(limits.connections_waiting_max).unwrap_or(u64::MAX);
    let wanted =
        connections.saturating_add(waiting).saturating_add(upstream).saturating_add(fills).saturating_add(BESIDES);
    let allowed = allowed.filter(|allowed| *allowed < wanted)?;
    Some(format!(
        "the system allows {allowed} open files, limits.connections_max = {connections} can need {wanted}: connections will wait; raise the limit (ulimit -n, LimitNOFILE=) or lower it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_are_told_and_enough_are_not() {
        let limits = Limits {
            connections_max: 90,
            connections_waiting_max: 10,
            upstream_connections_max: 10,
            fills_max: 6,
            ..Limits::default()
        };
        assert_eq!(few(None, &limits), None, "as many as it likes");
        assert_eq!(few(Some(372), &limits), None);
        assert!(few(Some(371), &limits).is_some_and(|told| told.contains("allows 371 open files")));
    }

    #[test]
    fn what_the_system_allows_is_taken() {
        raise(&Limits::default());
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
