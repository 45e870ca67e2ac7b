//! Sees a leader's process die sooner than its lease ends: the kernel closes its connections and refuses new ones.
//!
//! Only a refusal counts, by the same machine that took a connection from here before in this leader's term; silence is
//! what the lease is for. If it is wrong the leader loses its place, never more: its writes are fenced.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a connection to be made or refused.
const CONNECT: Duration = Duration::from_millis(300);

/// Refusals in a row that count.
const REFUSALS: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Of the leader that is watched.
    epoch: u64,
    connection: Option<TcpStream>,
    /// It took a connection in this term.
    reached: bool,
    refusals: u32,
}

impl Watchdog {
    /// Looks once; true once per leader.
    pub(super) async fn is_gone(&mut self, epoch: u64, address: &str) -> bool {
        if self.epoch != epoch {
            *self = Self {
                epoch,
                ..Self::default()
            };
        }
        if let Some(connection) = &self.connection {
            // The leader never speaks first.
            match connection.try_read(&mut [0; 64]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Ok(1..) => return false,
                Ok(0) | Err(_) => self.connection = None,
            }
        }
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                self.reached = true;
                self.refusals = 0;
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused && self.reached => {
                self.refusals += 1;
            }
            _ => self.refusals = 0,
        }
        self.refusals == REFUSALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_leader_that_was_reached_and_refuses_is_gone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address").to_string();
        let mut watchdog = Watchdog::default();
        for _ in 0..4 {
            assert!(!watchdog.is_gone(1, &address).await);
        }
        let (taken, _) = listener.accept().await.expect("it looked");
        drop((taken, listener));
        let seen = async {
            while !watchdog.is_gone(1, &address).await {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), seen).await.expect("seen");
        assert!(!watchdog.is_gone(1, &address).await, "told once");
        for _ in 0..6 {
            assert!(
                !watchdog.is_gone(2, &address).await,
                "the next leader was never reached"
            );
        }
    }
}
