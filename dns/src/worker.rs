//! The threads that answer UDP, one for each socket; what they cannot answer shortly they hand to the async part.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::fast::{Fast, Step};
use crate::handler::Shared;
use crate::mmsg::Batch;
use crate::respond::{Transport, respond};

/// Questions by UDP on their long way at once; more than the forwarder lets wait, so that its SERVFAIL is heard. What comes
/// beyond is dropped and counted: the client asks again.
const MAX_LONG: usize = 2048;

/// All threads.
pub(crate) struct Workers {
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Starts a thread for each socket. Each must have a receive timeout, by which its thread sees that it shall end.
    pub(crate) fn start(shared: &Arc<Shared>, sockets: Vec<UdpSocket>, runtime: &Handle) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let long = Arc::new(Semaphore::new(MAX_LONG));
        let workers = Self {
            stop: Arc::clone(&stop),
            threads: Mutex::default(),
        };
        for socket in sockets {
            let worker = Worker {
                shared: Arc::clone(shared),
                socket: Arc::new(socket),
                stop: Arc::clone(&stop),
                long: Arc::clone(&long),
                runtime: runtime.clone(),
            };
            let thread = std::thread::Builder::new().name("dns".to_owned());
            workers.threads.lock().push(thread.spawn(move || worker.run())?);
        }
        Ok(workers)
    }

    /// Ends them and waits for it.
    pub(crate) async fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
        if !matches!(joined, Ok(true)) {
            tracing::error!("a thread of the name server panicked");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Not joined: whoever drops must not wait.
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
    long: Arc<Semaphore>,
    runtime: Handle,
}

impl Worker {
    fn run(self) {
        let began = Instant::now();
        let mut fast = Fast::new(Arc::clone(&self.shared));
        let mut batch = Batch::new();
        while !self.stop.load(Ordering::Relaxed) {
            let count = match batch.receive(&self.socket) {
                Ok(count) => count,
                Err(error) => {
                    // Errors of earlier answers (port unreachable) arrive here; none of them ends a UDP server.
                    tracing::debug!(%error, "could not receive DNS questions");
                    continue;
                }
            };
            fast.refresh();
            let second = began.elapsed().as_secs();
            for index in 0..count {
                let Some((datagram, out)) = batch.get(index) else {
                    continue;
                };
                match fast.step(datagram.bytes, datagram.from.ip(), second, out) {
                    Step::Answered => batch.answered(index),
                    Step::Silent => {}
                    Step::Long => self.take_long_way(datagram.bytes.to_vec(), datagram.from),
                }
            }
            // Counted first: who has an answer shall find it counted.
            fast.flush();
            batch.send(&self.socket);
        }
    }

    fn take_long_way(&self, message: Vec<u8>, from: std::net::SocketAddr) {
        let Ok(place) = Arc::clone(&self.long).try_acquire_owned() else {
            self.shared.counts.add_dropped();
            return;
        };
        let shared = Arc::clone(&self.shared);
        let socket = Arc::clone(&self.socket);
        self.runtime.spawn(async move {
            if let Some(answer) = respond(&shared, message, from, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, from)
            {
                tracing::debug!(%error, client = %from, "could not send a DNS answer");
            }
            drop(place);
        });
    }
}
