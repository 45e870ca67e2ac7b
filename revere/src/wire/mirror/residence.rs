//! The mirrors of what an instance keeps on its agent, and of secrets.

use bincode::{Decode, Encode};
use model::{AgentId, PersistentVolume, Resources, SecretValue, TaskState};
use scheduler::{InstanceId, Residence, Secret, Timestamp};

use super::super::since::Version;
use super::super::{Wire, WireError};
use super::record::app_id;

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct ResidenceMirror {
    id: String,
    app: String,
    agent: String,
    /// Path and MiB.
    volumes: Vec<(String, u64)>,
    resources: <Resources as Wire>::Mirror,
    attempt: u32,
    version: u64,
    /// Mesos' name of the state.
    ended: Option<String>,
    wiped: bool,
}

impl Wire for Residence {
    type Mirror = ResidenceMirror;

    fn to_mirror(&self) -> ResidenceMirror {
        let pair = |volume: &PersistentVolume| (volume.container_path.clone(), volume.size_mb);
        ResidenceMirror {
            id: self.id.0.clone(),
            app: self.app.as_str().to_owned(),
            agent: self.agent.as_str().to_owned(),
            volumes: self.volumes.iter().map(pair).collect(),
            resources: self.resources.to_mirror(),
            attempt: self.attempt,
            version: self.version.0,
            ended: self.ended.map(|state| state.as_str().to_owned()),
            wiped: self.wiped,
        }
    }

    fn from_mirror(mirror: ResidenceMirror) -> Result<Self, WireError> {
        let volume = |(container_path, size_mb)| PersistentVolume {
            container_path,
            size_mb,
        };
        Ok(Self {
            id: InstanceId(mirror.id),
            app: app_id(&mirror.app)?,
            agent: AgentId::new(mirror.agent),
            volumes: mirror.volumes.into_iter().map(volume).collect(),
            resources: Resources::from_mirror(mirror.resources)?,
            attempt: mirror.attempt,
            version: Timestamp(mirror.version),
            ended: mirror.ended.as_deref().map(state).transpose()?,
            wiped: mirror.wiped,
        })
    }
}

impl Wire for Secret {
    /// Path and value.
    type Mirror = (String, Vec<u8>);

    fn to_mirror(&self) -> Self::Mirror {
        (self.path.clone(), self.value.expose().to_vec())
    }

    fn from_mirror((path, value): Self::Mirror) -> Result<Self, WireError> {
        let value = SecretValue::new(value);
        Ok(Self { path, value })
    }
}

fn state(name: &str) -> Result<TaskState, WireError> {
    TaskState::parse(name).ok_or_else(|| WireError::Field {
        field: "state of a residence",
        reason: format!("`{name}` is none"),
    })
}
