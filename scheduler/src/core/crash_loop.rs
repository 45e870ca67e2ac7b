//! Apps whose instances fail again and again, so that somebody is told.

use std::time::Duration;

use crate::{AppId, ClusterEvent, Timestamp};

use super::backoff::Delay;
use super::{Scheduler, TaskFailure};

/// Failures in a row from which on it is one: with Marathon's default delays that is some five seconds of trying.
const FAILURES: u32 = 5;

/// What is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CrashLoop {
    /// Failures in a row.
    pub failures: u32,
    /// When the first of them was.
    pub since: Timestamp,
    /// How long the next launch still waits.
    pub next_launch: Duration,
    /// The newest of them.
    pub last: Option<TaskFailure>,
}

impl Scheduler {
    /// Whether an app is in one. It ends when nothing failed for as long as the longest launch delay, with another
    /// definition, or when somebody ends the delay.
    pub fn crash_loop(&self, app: &AppId) -> Option<CrashLoop> {
        let rule = &self.apps.get(app)?.backoff;
        let delay = self.delays.get(app).filter(|delay| delay.failures >= FAILURES)?;
        (!delay.is_calm(rule, self.now)).then(|| self.crash_loop_of(app, delay))
    }

    fn crash_loop_of(&self, app: &AppId, delay: &Delay) -> CrashLoop {
        CrashLoop {
            failures: delay.failures,
            since: delay.since,
            next_launch: delay.until.since(self.now),
            last: self.last_failure(app).cloned(),
        }
    }

    /// Told once when it begins, and each time that as many more failures came.
    pub(super) fn tell_crash_loop(&mut self, app: &AppId, delay: &Delay) {
        if delay.failures >= FAILURES && delay.failures.is_multiple_of(FAILURES) {
            let told = self.crash_loop_of(app, delay);
            self.tell_event(ClusterEvent::CrashLoop(app.clone(), Box::new(told)));
        }
    }
}

#[cfg(test)]
mod tests {
    use model::TaskState;

    use super::super::tests::Bench;
    use super::*;
    use crate::{AppSpec, Command, Effect};

    #[test]
    fn five_failures_in_a_row_are_told_once_and_forgotten_in_time() {
        let mut bench = Bench::new();
        let agent = bench.register(None, Vec::new()).agent;
        let spec = AppSpec {
            id: "/a".to_owned(),
            cmd: Some("false".to_owned()),
            cpus: Some(0.1),
            mem: Some(10.0),
            max_launch_delay_seconds: Some(20.0),
            port_definitions: Some(Vec::new()),
            ..AppSpec::default()
        };
        bench.command(Command::CreateApp(Box::new(spec))).expect("valid");
        let id = bench.core.app("/a").expect("there").id.clone();
        let mut told = 0;
        for failure in 1..=7 {
            let launched = loop {
                if let Some(spec) = bench.launches().pop() {
                    break spec;
                }
                bench.next_timer();
            };
            bench.tell(&agent, &launched.task, TaskState::Running);
            bench.tell(&agent, &launched.task, TaskState::Failed);
            let events = bench.effects();
            told += events
                .iter()
                .filter(|effect| matches!(effect, Effect::Tell(ClusterEvent::CrashLoop(..))))
                .count();
            let known = bench.core.crash_loop(&id);
            assert_eq!(
                known.as_ref().map(|known| known.failures),
                (failure >= 5).then_some(failure)
            );
            if let Some(known) = known {
                let last = known.last.expect("known");
                assert_eq!((last.state, last.facts.task), (TaskState::Failed, launched.task));
                assert!(known.next_launch > Duration::ZERO);
            }
        }
        assert_eq!(told, 1);
        let calm = bench.at().after(Duration::from_secs(30));
        bench.core.handle_heartbeat(calm, &agent);
        assert_eq!(bench.core.crash_loop(&id), None);
    }
}
