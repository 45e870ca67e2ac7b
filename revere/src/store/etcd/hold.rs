//! A tool's hold on the records in etcd: while it lasts no master leads, and none may have been there before.

use serde_json::json;

use super::{EtcdStoreError, Fence, PATIENCE, Place, check};
use crate::etcd::{Compare, Op, Session};

/// How long a tool that was killed stands in the masters' way.
const SECONDS: u64 = 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hold {
    place: Place,
    session: Session,
    epoch: u64,
}

impl Hold {
    /// Refused while a master is there.
    pub(crate) async fn take(place: &Place, cluster: &str) -> Result<Self, EtcdStoreError> {
        place.etcd.check(PATIENCE).await?;
        check(place, cluster).await?;
        let session = Session::begin(&place.etcd, SECONDS, PATIENCE).await?;
        let key = place.leader_key();
        let when = [Compare::Created(key.clone(), 0)];
        let put = Op::Put {
            key: key.clone(),
            value: json!({"tool": "revere state"}).to_string().into_bytes(),
            lease: session.lease,
        };
        let done = place.etcd.transaction(&when, &[put], &[], PATIENCE).await?;
        let hold = Self {
            place: place.clone(),
            epoch: done.revision,
            session,
        };
        if !done.succeeded {
            return Err(hold.refused("that leads").await);
        }
        // A master that waits would lead as soon as this is over, and with what?
        let (from, end) = (place.masters_key(), format!("{}/masters0", place.prefix));
        let masters = place.etcd.page(&from, &end, 0, 1, PATIENCE).await?;
        match masters.kvs.first() {
            None => Ok(hold),
            Some(master) => {
                let name = master.key.strip_prefix(&from).unwrap_or_default().to_owned();
                Err(hold.refused(&name).await)
            }
        }
    }

    async fn refused(self, who: &str) -> EtcdStoreError {
        let refused = EtcdStoreError::InUse(self.place.url.clone(), who.to_owned());
        self.release().await;
        refused
    }

    /// What lets this tool write.
    pub(crate) fn fence(&self) -> Fence {
        Fence::new(self.epoch, &self.session)
    }

    /// Lets masters in again.
    pub(crate) async fn release(self) {
        // If it fails the lease ends by itself.
        let _ = self.place.etcd.revoke(self.session.lease, PATIENCE).await;
    }
}
