//! Service ports: numbers unique in the cluster, given where the user wrote 0.

use std::collections::BTreeSet;

use crate::App;

/// The service ports taken by apps.
#[derive(Clone, Debug)]
pub struct ServicePorts {
    range: (u16, u16),
    taken: BTreeSet<u16>,
    /// All of the range before this one are taken.
    first_free: u16,
}

impl ServicePorts {
    /// All of the range free; both ends belong to it.
    pub fn new(range: (u16, u16)) -> Self {
        Self {
            range,
            taken: BTreeSet::new(),
            first_free: range.0,
        }
    }

    /// The lowest free port, from now on taken.
    pub fn give(&mut self) -> Option<u16> {
        let port = (self.first_free..=self.range.1).find(|port| !self.taken.contains(port))?;
        self.first_free = port;
        self.taken.insert(port);
        Some(port)
    }

    /// Marks an app's ports as taken.
    pub fn take(&mut self, app: &App) {
        // Endpoints of pods have none.
        let given = app.ports.iter().map(|port| port.service_port).filter(|port| *port != 0);
        self.taken.extend(given);
    }

    /// Frees an app's ports.
    pub fn free(&mut self, app: &App) {
        for port in &app.ports {
            self.taken.remove(&port.service_port);
            self.first_free = self.first_free.min(port.service_port.max(self.range.0));
        }
    }
}
