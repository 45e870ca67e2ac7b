//! Mirrors of what agents keep for roles.

use model::{AgentId, Resources};
use scheduler::{Holding, Reservation, RoleVolume};

use super::super::{Wire, WireError};
use super::{list, unlist};

/// (id, principal, path, MiB, owner, leaving)
type VolumeMirror = (String, Option<String>, String, u64, String, bool);

impl Wire for Holding {
    /// ((role, principal, labels), (cpus, mem, disk), volumes)
    type Mirror = (
        (String, Option<String>, Vec<(String, String)>),
        (u64, u64, u64),
        Vec<VolumeMirror>,
    );

    fn to_mirror(&self) -> Self::Mirror {
        let by = self.by.clone();
        let volume = |one: &RoleVolume| {
            let (id, principal, path) = (one.id.clone(), one.principal.clone(), one.container_path.clone());
            (id, principal, path, one.size_mb, one.owner.clone(), one.leaving)
        };
        let sums = self.resources;
        (
            (by.role, by.principal, by.labels),
            (sums.cpus_milli, sums.mem_mb, sums.disk_mb),
            self.volumes.iter().map(volume).collect(),
        )
    }

    fn from_mirror((by, sums, volumes): Self::Mirror) -> Result<Self, WireError> {
        let volume = |(id, principal, container_path, size_mb, owner, leaving): VolumeMirror| RoleVolume {
            id,
            principal,
            container_path,
            size_mb,
            owner,
            leaving,
        };
        Ok(Self {
            by: Reservation {
                role: by.0,
                principal: by.1,
                labels: by.2,
            },
            resources: Resources {
                cpus_milli: sums.0,
                mem_mb: sums.1,
                disk_mb: sums.2,
            },
            volumes: volumes.into_iter().map(volume).collect(),
        })
    }
}

/// An agent and what it keeps.
pub(crate) struct HoldingsOf(pub(crate) AgentId, pub(crate) Vec<Holding>);

impl Wire for HoldingsOf {
    type Mirror = (String, Vec<<Holding as Wire>::Mirror>);

    fn to_mirror(&self) -> Self::Mirror {
        (self.0.as_str().to_owned(), list(&self.1))
    }

    fn from_mirror((agent, holdings): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self(AgentId::new(agent), unlist(holdings)?))
    }
}
