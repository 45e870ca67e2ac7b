//! What agents keep for roles: dynamic reservations, and volumes on reserved disk.

use model::{KeptVolume, Resources};

/// For whom something is kept, and on whose word.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reservation {
    /// The role; only its frameworks are offered it.
    pub role: String,
    /// Who reserved it, as they say.
    pub principal: Option<String>,
    /// Labels that tell reservations of one role apart.
    pub labels: Vec<(String, String)>,
}

/// A persistent volume of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleVolume {
    /// Its id (`persistence.id`), unique on its agent.
    pub id: String,
    /// Who created it, as they say.
    pub principal: Option<String>,
    /// Where a task sees it.
    pub container_path: String,
    /// MiB.
    pub size_mb: u64,
    /// Names its directory on the node; never used again.
    pub owner: String,
    /// It was destroyed, and its agent has not said yet that the data is gone.
    pub leaving: bool,
}

impl RoleVolume {
    /// As its agent mounts it.
    pub(crate) fn kept(&self) -> KeptVolume {
        KeptVolume {
            owner: self.owner.clone(),
            container_path: self.container_path.clone(),
        }
    }
}

/// What of an agent is kept under one reservation, or a part of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Which.
    pub by: Reservation,
    /// All but volumes.
    pub resources: Resources,
    /// Volumes, whose disk comes beside `resources`.
    pub volumes: Vec<RoleVolume>,
}

impl Holding {
    /// With what its volumes take.
    pub fn total(&self) -> Resources {
        let disk_mb = self
            .volumes
            .iter()
            .fold(0, |sum: u64, one| sum.saturating_add(one.size_mb));
        self.resources.plus(&Resources {
            disk_mb,
            ..Resources::default()
        })
    }

    fn is_empty(&self) -> bool {
        self.resources == Resources::default() && self.volumes.is_empty()
    }
}

/// The sum of several.
pub(crate) fn total(holdings: &[Holding]) -> Resources {
    holdings
        .iter()
        .fold(Resources::default(), |sum, one| sum.plus(&one.total()))
}

/// Puts a part to the others of its reservation.
pub(crate) fn put(all: &mut Vec<Holding>, part: Holding) {
    match all.iter_mut().find(|one| one.by == part.by) {
        Some(known) => {
            known.resources = known.resources.plus(&part.resources);
            known.volumes.extend(part.volumes);
        }
        None if part.is_empty() => {}
        None => all.push(part),
    }
}

/// Takes a part away; what is not there is not taken.
pub(crate) fn take(all: &mut Vec<Holding>, part: &Holding) {
    if let Some(known) = all.iter_mut().find(|one| one.by == part.by) {
        known.resources = known.resources.minus(&part.resources);
        let gone = |volume: &RoleVolume| part.volumes.iter().any(|one| one.id == volume.id);
        known.volumes.retain(|volume| !gone(volume));
    }
    all.retain(|one| !one.is_empty());
}

/// What a task wants of a reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Which; a principal or labels that are not named match any.
    pub by: Reservation,
    /// All but volumes.
    pub resources: Resources,
    /// Ids of volumes, with their sizes.
    pub volumes: Vec<(String, u64)>,
}

/// A volume that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// On which reservation.
    pub by: Reservation,
    /// Its id.
    pub id: String,
    /// Who creates it.
    pub principal: Option<String>,
    /// Where tasks see it.
    pub container_path: String,
    /// MiB.
    pub size_mb: u64,
}

/// A change of what an agent keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldingChange {
    /// `RESERVE`: of what is free.
    Reserve(Vec<Claim>),
    /// `UNRESERVE`.
    Unreserve(Vec<Claim>),
    /// `CREATE`.
    Create(Vec<NewVolume>),
    /// `DESTROY`, by reservation and id.
    Destroy(Vec<(Reservation, String)>),
}
