//! Readers that begin from nothing: one state is made at a time, and all who wait share the one that is taken after they came.
//!
//! A state of ten thousand agents takes the driver little to take and somebody else long to write. Ten thousand readers that come
//! while tasks change, each with a state of its own, would leave time for nothing else.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::core::{Core, Followed};
use super::gathered::{Form, Gathered};
use super::handle::{Gone, Handle};

/// More than wait at a time: a hundred thousand nodes on three masters.
const MOST_WAITING: usize = 65_536;
/// After a state was made no other is for so many times as long: a quarter of a core makes them at most.
const REST: u32 = 3;
/// But not for longer than this.
const MOST_REST: Duration = Duration::from_secs(1);
/// Readers that are being told what they begin with at the same time. Each may have a whole state in its connection's buffers.
const TURNS: usize = 64;
/// One that does not read gives its turn up after this.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// What a reader begins with.
type Begun = (Arc<Gathered>, Followed);

/// Somebody who waits for a state.
#[derive(Debug)]
struct Waiter {
    form: Form,
    begun: oneshot::Sender<Begun>,
}

#[derive(Debug, Default)]
struct Waiting {
    readers: Vec<Waiter>,
    /// Somebody makes states for them.
    served: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Beginners {
    handle: Handle,
    waiting: Mutex<Waiting>,
    turns: Arc<Semaphore>,
}

/// A reader's time to be told what it begins with; over when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _over: oneshot::Sender<()>,
}

impl Beginners {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            waiting: Mutex::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }

    /// A state that is made in that form, and everything after it.
    pub(super) async fn begin(self: &Arc<Self>, form: Form) -> Result<Begun, Gone> {
        let (sender, begun) = oneshot::channel();
        let served = {
            let mut waiting = self.waiting.lock();
            if waiting.readers.len() >= MOST_WAITING {
                return Err(Gone::Crowded(MOST_WAITING));
            }
            waiting.readers.push(Waiter { form, begun: sender });
            std::mem::replace(&mut waiting.served, true)
        };
        if !served {
            // Whoever came first may go away; the others wait on.
            tokio::spawn(Arc::clone(self).serve());
        }
        begun.await.map_err(|_| Gone::Ended)
    }

    /// Until nobody waits.
    async fn serve(self: Arc<Self>) {
        loop {
            let readers = {
                let mut waiting = self.waiting.lock();
                waiting.served = !waiting.readers.is_empty();
                std::mem::take(&mut waiting.readers)
            };
            if readers.is_empty() {
                return;
            }
            let began = Instant::now();
            if self.tell(readers).await {
                sleep((began.elapsed() * REST).min(MOST_REST)).await;
            }
        }
    }

    /// Gives all of them one state; whether it had to be made. They are dropped where there is none any more.
    async fn tell(&self, readers: Vec<Waiter>) -> bool {
        // What clients of Mesos are told of agents may be otherwise without any event.
        let new = readers.iter().any(|one| matches!(one.form, Form::Plain(_)));
        let count = readers.len();
        let look = move |core: &mut Core| core.begin(new, count);
        let Ok((state, followed)) = self.handle.follow(look).await else {
            return false;
        };
        let mut forms: Vec<Form> = Vec::new();
        for one in &readers {
            if !forms.contains(&one.form) && !state.is_made(one.form) {
                forms.push(one.form);
            }
        }
        let made = !forms.is_empty();
        if made {
            let state = Arc::clone(&state);
            let make = move || forms.into_iter().for_each(|form| drop(state.told(form)));
            if spawn_blocking(make).await.is_err() {
                return made;
            }
        }
        for (one, followed) in readers.into_iter().zip(followed) {
            // It may have gone away meanwhile.
            let _ = one.begun.send((Arc::clone(&state), followed));
        }
        made
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn {
        let permit = Arc::clone(&self.turns).acquire_owned().await;
        let (over, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let _ = timeout(LONGEST_TURN, ended).await;
            drop(permit);
        });
        Turn { _over: over }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use futures_util::future::join_all;
    use model::{FrameworkId, FrameworkInfo, TaskEvent};
    use scheduler::{Scheduler, Timestamp};
    use tokio::sync::{broadcast, mpsc};
    use tokio::time::advance;

    use super::*;
    use crate::master::handle::Input;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn core() -> Core {
        let config = scheduler::Config::default();
        Core::new(Scheduler::new(config, 1, Vec::new()), Timestamp(1))
    }

    /// That such a framework is there will be told.
    fn note(core: &mut Core, name: &str) {
        core.emit(TaskEvent::FrameworkAdded(FrameworkInfo {
            id: FrameworkId::new(name),
            name: name.to_owned(),
            ip: None,
            port: None,
        }));
    }

    /// It is told.
    fn tell(core: &mut Core, name: &str) {
        note(core, name);
        core.now = core.now.after(Duration::from_secs(1));
        core.send_gathered();
    }

    async fn look(inputs: &mut mpsc::Receiver<Input>) -> super::super::handle::Look {
        let input = timeout(DEADLINE, inputs.recv()).await.expect("nobody looks");
        match input {
            Some(Input::Look(look)) => look,
            _ => panic!("something else than a look"),
        }
    }

    /// Names of the frameworks that a reader hears of.
    fn heard(followed: &mut Followed) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            match followed.try_recv() {
                Ok(told) => {
                    let text = told.told(Form::Placed);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let names = ["f1", "f2", "f3", "f4"].into_iter().filter(|name| text.contains(name));
                    heard.extend(names.map(str::to_owned));
                }
                Err(broadcast::error::TryRecvError::Empty) => return heard,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_a_state_of_after_they_came_and_hear_all_since() {
        let (handle, mut inputs) = Handle::new();
        let (beginners, mut core) = (Arc::new(Beginners::new(handle)), core());
        let reader = || {
            let beginners = Arc::clone(&beginners);
            tokio::spawn(async move { beginners.begin(Form::Packed).await.expect("told") })
        };
        let first = reader();
        let taken = look(&mut inputs).await;
        // They come while a state is on its way that is older than they are.
        let late: Vec<_> = (0..200).map(|_| reader()).collect();
        while beginners.waiting.lock().readers.len() < late.len() {
            tokio::task::yield_now().await;
        }
        taken(&mut core);
        tell(&mut core, "f1");
        let (old, mut followed) = timeout(DEADLINE, first).await.expect("in time").expect("told");
        assert_eq!(heard(&mut followed), ["f1"]);
        // What is told to others at that very moment is in their state.
        note(&mut core, "f2");
        // One look for all of them.
        look(&mut inputs).await(&mut core);
        note(&mut core, "f3");
        let late = timeout(DEADLINE, join_all(late)).await.expect("with one look");
        let mut late: Vec<Begun> = late.into_iter().map(|one| one.expect("told")).collect();
        let shared = Arc::clone(&late[0].0);
        for (state, followed) in &mut late {
            assert!(!Arc::ptr_eq(state, &old), "f1 was told after that one");
            assert!(Arc::ptr_eq(state, &shared), "one for all");
            assert!(state.is_made(Form::Packed));
            assert_eq!(heard(followed), <[&str; 0]>::default());
        }
        // Nothing has been told after that state, though something will be.
        let last = reader();
        look(&mut inputs).await(&mut core);
        let (state, followed) = timeout(DEADLINE, last).await.expect("in time").expect("told");
        assert!(Arc::ptr_eq(&state, &shared));
        tell(&mut core, "f4");
        late.push((state, followed));
        assert!(late.iter_mut().all(|(_, followed)| heard(followed) == ["f3", "f4"]));
    }

    #[test]
    fn who_comes_back_is_told_once_what_it_missed_and_where_it_is() {
        let mut core = core();
        core.begin_trail("x".to_owned(), 10);
        tell(&mut core, "f1");
        core.reach(11);
        // It has not gone out when somebody comes back.
        note(&mut core, "f2");
        core.reach(12);
        let told = |first: &[Arc<Gathered>]| {
            let told: Vec<u8> = first.iter().flat_map(|one| one.told(Form::Placed)).collect();
            String::from_utf8_lossy(&told).into_owned()
        };
        let (first, mut followed) = core.resume("x/11").expect("known");
        let first = told(&first);
        // f2 comes with what everybody is told: thousands who come back must not make thousands of tellings.
        assert!(!first.contains("f2") && !first.contains("f1"), "{first}");
        assert!(first.contains("x/10"), "{first}");
        // Another copy told this one of f2: it must not hear it again behind what came after.
        let (first, mut ahead) = core.resume("x/12").expect("known");
        let first = told(&first);
        assert!(!first.contains("f2") && first.contains("x/12"), "{first}");
        tell(&mut core, "f3");
        assert_eq!(heard(&mut followed), ["f2", "f3"]);
        assert_eq!(heard(&mut ahead), ["f3"]);
        // Who comes to the first place now is told what was told since.
        let (first, _) = core.resume("x/11").expect("known");
        let first = told(&first);
        assert!(["f2", "f3", "x/12"].iter().all(|one| first.contains(one)), "{first}");
        assert!(core.resume("x/9").is_none() && core.resume("y/11").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_told_takes_a_turn_and_cannot_keep_it() {
        let (handle, _inputs) = Handle::new();
        let beginners = Beginners::new(handle);
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(beginners.turn().await);
        }
        let mut next = Box::pin(beginners.turn());
        let waits = poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await;
        assert!(waits, "all turns are taken");
        turns.pop();
        let turn = timeout(LONGEST_TURN / 2, next).await.expect("one was given back");
        // None of the others reads.
        let next = beginners.turn();
        advance(LONGEST_TURN).await;
        timeout(Duration::from_millis(1), next).await.expect("they lost theirs");
        drop((turn, turns));
    }
}
