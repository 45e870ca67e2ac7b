//! A client in a network namespace of its own, wired to the lab's.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

use super::lab::{Lab, ip};

/// A thread in a network namespace of its own, wired to the lab's, whose sockets the lab's thread uses.
pub(crate) struct Elsewhere {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    /// `here` names the lab's end of the wire.
    pub(crate) fn start(here: &str) -> Self {
        Self::on(here, "10.99.0")
    }

    /// The same with addresses of another network of 256, of which the lab has the first.
    pub(crate) fn on(here: &str, net: &str) -> Self {
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
        ip(&format!("addr add {net}.1/24 dev {here}"));
        ip(&format!("link set {here} up"));
        let elsewhere = Self {
            work: Some(work),
            thread: Some(thread),
        };
        let there = format!("addr add {net}.2/24 dev there");
        elsewhere.run(move || {
            ip("link set there up");
            ip(&there);
        });
        elsewhere
    }

    /// A client of the lab's VIPs in both families that the hooks do not reach; `here` is the lab's end.
    pub(crate) fn ask_vips(&self, lab: &Lab, here: &str) {
        ip(&format!("addr add fd0c::1/64 dev {here} nodad"));
        self.leave_hooks(lab);
        self.run(|| {
            ip("addr add fd0c::2/64 dev there nodad");
            ip("route add 198.18.0.0/15 via 10.99.0.1");
            ip("route add fd99:1:2:3::/64 via fd0c::1");
        });
    }

    /// Out of the hooks' reach.
    pub(crate) fn leave_hooks(&self, lab: &Lab) {
        let outside = lab.outside();
        self.run(move || std::fs::write(outside, nix::unistd::gettid().to_string()).expect("another cgroup"));
    }

    /// Switches what its end of the wire does by itself, as `ethtool -K` names it.
    pub(crate) fn offload(&self, switches: &str) {
        let line = format!("-K there {switches}");
        self.run(move || {
            let status = Command::new("ethtool")
                .args(line.split_whitespace())
                .stdout(Stdio::null())
                .status();
            assert!(status.expect("ethtool is installed").success(), "{line}");
        });
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
