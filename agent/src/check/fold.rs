//! From single answers to the results that are told: Marathon's rules for grace and for failures in a row.

use model::{CheckResult, HealthCheck, ReadinessCheck, ReadinessResult};

use super::Answer;

/// Adds an answer. `grace`: the task is young enough that failures before its first success do not count.
pub(super) fn health(result: &mut CheckResult, answer: &Answer, now_ms: u64, grace: bool) {
    match answer {
        Answer::Alive => {
            result.alive = Some(true);
            result.failures = 0;
            result.first_success_ms.get_or_insert(now_ms);
            result.last_success_ms = Some(now_ms);
        }
        Answer::Dead(cause) => {
            result.last_failure_ms = Some(now_ms);
            result.cause = Some(cause.clone());
            if result.first_success_ms.is_some() || !grace {
                result.alive = Some(false);
                result.failures = result.failures.saturating_add(1);
            }
        }
        Answer::Silent | Answer::Response(_) => {}
    }
}

/// Whether the scheduler has to know: the verdict, the count up to where it decides something, the first cause.
pub(super) fn is_news(check: &HealthCheck, before: &CheckResult, after: &CheckResult) -> bool {
    let counted = |result: &CheckResult| result.failures.min(check.max_failures.max(1));
    before.alive != after.alive || counted(before) != counted(after) || before.cause.is_none() != after.cause.is_none()
}

/// Adds an answer to a readiness check. Once ready, it stays so.
pub(super) fn readiness(check: &ReadinessCheck, result: &mut ReadinessResult, answer: &Answer) {
    let Answer::Response(response) = answer else {
        // Nobody answered: what was answered before is no longer so.
        result.response = None;
        return;
    };
    result.ready |= check.ready_codes.contains(&response.status);
    result.response = check.keep_response.then(|| response.clone());
}

/// Bodies may differ each time; only another status is news.
pub(super) fn is_ready_news(before: &ReadinessResult, after: &ReadinessResult) -> bool {
    let status = |result: &ReadinessResult| result.response.as_ref().map(|response| response.status);
    before.ready != after.ready || status(before) != status(after)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{CheckAddress, CheckResponse, Probe, Scheme};

    use super::*;

    fn check(max_failures: u32) -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp {
                at: CheckAddress::Task,
                port: 1,
            },
            delay: Duration::ZERO,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            max_failures,
        }
    }

    fn dead() -> Answer {
        Answer::Dead("no".to_owned())
    }

    /// Verdict, failures in a row and whether it was told, after each answer.
    fn walk(max_failures: u32, answers: &[(Answer, bool)]) -> Vec<(Option<bool>, u32, bool)> {
        let (check, mut result) = (check(max_failures), CheckResult::default());
        let mut told = Vec::new();
        for (now, (answer, grace)) in (1..).zip(answers) {
            let before = result.clone();
            health(&mut result, answer, now, *grace);
            told.push((result.alive, result.failures, is_news(&check, &before, &result)));
        }
        told
    }

    #[test]
    fn failures_count_only_after_grace_or_the_first_success() {
        let alive = Answer::Alive;
        let got = walk(
            3,
            &[
                (dead(), true),
                (dead(), true),
                (dead(), false),
                (alive.clone(), true),
                (dead(), true),
            ],
        );
        assert_eq!(
            got,
            [
                (None, 0, true),
                (None, 0, false),
                (Some(false), 1, true),
                (Some(true), 0, true),
                (Some(false), 1, true)
            ],
            "the first cause is told, though it does not count"
        );
    }

    #[test]
    fn only_what_decides_something_is_told() {
        let alive = Answer::Alive;
        let told = |max, answers: &[(Answer, bool)]| -> Vec<bool> {
            walk(max, answers).into_iter().map(|(_, _, told)| told).collect()
        };
        let fails = vec![(dead(), false); 5];
        assert_eq!(told(3, &fails), [true, true, true, false, false]);
        assert_eq!(
            told(0, &fails),
            [true, false, false, false, false],
            "never ended, told once"
        );
        let well = vec![(alive, false), (Answer::Alive, false), (Answer::Silent, false)];
        assert_eq!(told(3, &well), [true, false, false]);
    }

    #[test]
    fn readiness_is_kept_once_reached() {
        let mut check = ReadinessCheck {
            name: "r".to_owned(),
            scheme: Scheme::Http,
            port: 1,
            path: "/".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            ready_codes: [200].into(),
            keep_response: true,
        };
        let answer = |status| {
            Answer::Response(CheckResponse {
                status,
                content_type: String::new(),
                body: String::new(),
            })
        };
        let mut result = ReadinessResult::default();
        let mut step = |check: &ReadinessCheck, answer: Answer| {
            let before = result.clone();
            readiness(check, &mut result, &answer);
            let status = result.response.as_ref().map(|response| response.status);
            (result.ready, status, is_ready_news(&before, &result))
        };
        assert_eq!(step(&check, answer(503)), (false, Some(503), true));
        assert_eq!(step(&check, answer(503)), (false, Some(503), false));
        assert_eq!(step(&check, dead()), (false, None, true));
        check.keep_response = false;
        assert_eq!(step(&check, answer(404)), (false, None, false));
        assert_eq!(step(&check, answer(200)), (true, None, true));
    }
}
