//! What is known about one upstream server: how fast it answers, and whether it answers at all. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Unanswered questions in a row after which a server is left alone for a while.
const PATIENCE: u32 = 3;
/// First pause of a server that went silent; doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: a server that comes back is used again this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Shortest wait before another server is asked as well: less would double the questions of a normal hiccup.
const SHORTEST_WAIT: Duration = Duration::from_millis(150);
/// Longest wait before another server is asked as well.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(900);
/// Wait for a server that has never answered.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// State of a server, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Answers, or was never asked.
    Up,
    /// Was silent; its pause is over, so one question may try it.
    Due,
    /// Is silent.
    Down,
}

/// One server's record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Smoothed time to an answer and its spread, as TCP smooths them (RFC 6298); `None` before the first.
    rtt: Option<(Duration, Duration)>,
    /// Unanswered questions in a row.
    failures: u32,
    /// Useless replies (SERVFAIL, REFUSED, lame) in a row.
    poor: u32,
    down_until: Option<Instant>,
}

impl Health {
    /// A reply came after `took`.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.failures = 0;
        self.down_until = None;
        self.rtt = Some(match self.rtt {
            None => (took, took / 2),
            Some((smooth, spread)) => {
                let error = smooth.abs_diff(took);
                (smooth * 7 / 8 + took / 8, spread * 3 / 4 + error / 4)
            }
        });
    }

    /// What came was of use.
    pub(crate) fn good(&mut self) {
        self.poor = 0;
    }

    /// What came was of no use.
    pub(crate) fn poor(&mut self) {
        self.poor = self.poor.saturating_add(1);
    }

    /// Nothing came in time, or the kernel says that nobody is there.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= PATIENCE {
            let doublings = (self.failures - PATIENCE).min(16);
            let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
            self.down_until = Some(now + pause);
        }
    }

    /// Whether it is worth a question.
    pub(crate) fn state(&self, now: Instant) -> State {
        match self.down_until {
            None => State::Up,
            Some(until) if until <= now => State::Due,
            Some(_) => State::Down,
        }
    }

    /// Takes the one try that a silent server gets after its pause; the next comes a pause later.
    pub(crate) fn claim(&mut self, now: Instant) {
        if self.state(now) == State::Due {
            self.down_until = Some(now + FIRST_PAUSE);
        }
    }

    /// Less is better: the time to an answer, worse with each useless one. Never asked is best, to learn about it.
    pub(crate) fn score(&self) -> Duration {
        let smooth = self.rtt.map_or(Duration::ZERO, |(smooth, _)| smooth);
        let failing = if self.failures > 0 {
            LONGEST_WAIT
        } else {
            Duration::ZERO
        };
        (smooth + failing) * (1 + self.poor.min(8)) + FIRST_WAIT * self.poor.min(8)
    }

    /// How long an answer may take before another server is asked as well.
    pub(crate) fn wait(&self) -> Duration {
        let usual = self.rtt.map_or(FIRST_WAIT, |(smooth, spread)| smooth + spread * 4);
        usual.clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Smoothed time to an answer.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|(smooth, _)| smooth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_silent_server_pauses_longer_and_longer_and_comes_back_at_once() {
        let start = Instant::now();
        let mut health = Health::default();
        health.failed(start);
        health.failed(start);
        assert_eq!(health.state(start), State::Up);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            health.failed(start);
            let pause = (0..100).find(|s| health.state(start + Duration::from_secs(*s)) == State::Due);
            pauses.push(pause.expect("it ends"));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let due = start + LONGEST_PAUSE;
        health.claim(due);
        assert_eq!(health.state(due), State::Down, "one try, not one of every question");
        health.answered(5 * MS);
        assert_eq!(health.state(due), State::Up);
    }

    #[test]
    fn waits_follow_the_times_seen_within_bounds() {
        let mut health = Health::default();
        assert_eq!(health.wait(), FIRST_WAIT);
        for _ in 0..100 {
            health.answered(MS);
        }
        assert_eq!(health.wait(), SHORTEST_WAIT);
        for _ in 0..100 {
            health.answered(400 * MS);
        }
        assert!(
            health.wait() >= 400 * MS && health.wait() < 500 * MS,
            "{:?}",
            health.wait()
        );
        for _ in 0..100 {
            health.answered(3000 * MS);
        }
        assert_eq!(health.wait(), LONGEST_WAIT);
    }

    #[test]
    fn useless_and_silent_servers_rank_behind() {
        let mut fast = Health::default();
        fast.answered(10 * MS);
        let mut slow = Health::default();
        slow.answered(80 * MS);
        assert!(fast.score() < slow.score());
        let mut lame = fast.clone();
        lame.poor();
        assert!(slow.score() < lame.score());
        lame.good();
        assert_eq!(lame.score(), fast.score());
        let mut silent = fast.clone();
        silent.failed(Instant::now());
        assert!(slow.score() < silent.score());
    }
}
