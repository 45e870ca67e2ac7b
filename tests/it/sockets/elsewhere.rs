//! A client in a network namespace of its own, wired to the lab's.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

use super::lab::ip;

/// A thread in a network namespace of its own, wired to the lab's, whose sockets the lab's thread uses.
pub(crate) struct Elsewhere {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    /// `here` names the lab's end of the wire.
    pub(crate) fn start(here: &str) -> Self {
        let (work, todo) = channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
            tell.send(nix::unistd::gettid()).expect("the test waits");
            for work in todo {
                work();
            }
        });
        let id = told.recv().expect("a namespace");
        ip(&format!("link add {here} type veth peer name there"));
        ip(&format!("link set there netns {id}"));
        ip(&format!("addr add 10.99.0.1/24 dev {here}"));
        ip(&format!("link set {here} up"));
        let elsewhere = Self {
            work: Some(work),
            thread: Some(thread),
        };
        elsewhere.run(|| {
            ip("link set there up");
            ip("addr add 10.99.0.2/24 dev there");
        });
        elsewhere
    }

    pub(crate) fn run<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let work = Box::new(move || tell.send(what()).expect("the test waits"));
        self.work.as_ref().expect("it runs").send(work).expect("it runs");
        told.recv().expect("done")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
