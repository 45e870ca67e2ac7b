//! Many masters on one etcd: one leads, the others wait for its place and hand on what they are asked.

mod copy;
pub(super) mod front;
mod member;
mod proxy;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scheduler::Record;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::publish::Publisher;
use super::{Config, MasterError, http};
use crate::etcd::clock::Moment;
use crate::etcd::{Compare, Etcd, EtcdAddress, Kv, Op, Session, Standing, Transport};
use crate::store::etcd::{EtcdStore, Fence, PATIENCE, Place, check};
use crate::store::{EtcdStoreError, StateStore, StoreError};
use front::{Front, Role};
pub(super) use member::Member;
use watchdog::Watchdog;

/// Between two looks at the leader's key.
const LOOK: Duration = Duration::from_millis(100);

/// Between two tries to reach etcd.
const RETRY: Duration = Duration::from_millis(500);

/// What makes this process one master of several.
#[derive(Debug)]
pub(super) struct Leadership {
    pub(super) place: Place,
    pub(super) me: Member,
    /// Name of the cluster, which its records are signed with.
    cluster: String,
    lease_seconds: u64,
    core: scheduler::Config,
    /// Tells those who look for the leader elsewhere.
    publisher: Option<Publisher>,
    pub(super) front: Arc<Front>,
    /// This master was asked to let another one lead.
    pub(super) resign: Notify,
    /// From winning to having let go.
    in_term: AtomicBool,
}

/// How a term ended.
enum End {
    /// The process ends.
    Shutdown,
    /// Somebody asked for it.
    Resigned,
}

/// Where the records of `config` lie.
pub(crate) fn place(config: &Config, address: &EtcdAddress) -> Result<Place, EtcdStoreError> {
    let transport = Transport::new(address, config.etcd_access())?;
    Ok(Place {
        etcd: Arc::new(Etcd::new(transport)),
        url: address.url(),
        prefix: address.prefix.clone(),
    })
}

impl Leadership {
    pub(super) fn new(config: &Config, address: &EtcdAddress, me: Member) -> Result<Self, MasterError> {
        Ok(Self {
            place: place(config, address).map_err(StoreError::from)?,
            cluster: config.cluster.clone(),
            lease_seconds: config.lease_seconds,
            core: config.core()?,
            publisher: config.publisher(&me)?,
            front: Arc::new(Front::new(me.address.clone())),
            me,
            resign: Notify::new(),
            in_term: AtomicBool::new(false),
        })
    }

    /// Waits until a commit is in this master's copy, but not for longer than `patience`.
    pub(super) async fn copy_reaches(&self, revision: u64, patience: Duration) {
        self.front.copy.reaches(revision, patience).await;
    }

    /// Waits, leads, waits again; ends when the process is to end, or with what cannot get better by itself.
    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StoreError> {
        // Its streams outlive the terms of whoever leads.
        tokio::spawn(copy::run(Arc::clone(&self), shutdown.clone()));
        let mut resigned = false;
        loop {
            let term = self.term(&shutdown, resigned);
            let ended = tokio::select! {
                ended = term => ended,
                () = self.stopped_while_waiting(&shutdown) => return Ok(()),
            };
            resigned = false;
            let why = match ended {
                Ok(End::Shutdown) => return Ok(()),
                Ok(End::Resigned) => {
                    resigned = true;
                    "this master stepped down, and no other leads yet".to_owned()
                }
                Err(error) => passing(error)?,
            };
            tracing::warn!("{why}");
            self.front.set(Role::Waiting(why));
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// A term that leads ends by itself, in order.
    async fn stopped_while_waiting(&self, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        while self.in_term.load(Ordering::Acquire) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn term(self: &Arc<Self>, shutdown: &CancellationToken, resigned: bool) -> Result<End, StoreError> {
        let etcd = &self.place.etcd;
        etcd.check(PATIENCE).await.map_err(EtcdStoreError::from)?;
        check(&self.place, &self.cluster).await?;
        let session = Session::begin(etcd, self.lease_seconds, PATIENCE).await;
        let session = session.map_err(EtcdStoreError::from)?;
        self.enroll(&session).await?;
        let epoch = self.campaign(&session, resigned).await?;
        self.in_term.store(true, Ordering::Release);
        let fence = Fence::new(epoch, &session);
        tracing::info!(epoch, "this master leads");
        let opened = EtcdStore::open(self.place.clone(), fence, &self.cluster).await;
        let end = match opened {
            Ok((store, records)) => self.lead(Arc::new(store), records, &session, shutdown).await,
            Err(error) => Err(error),
        };
        self.resign_key(epoch, &session).await;
        self.in_term.store(false, Ordering::Release);
        end
    }

    /// From the first answer to the last.
    async fn lead(
        self: &Arc<Self>,
        store: Arc<EtcdStore>,
        records: Vec<Record>,
        session: &Session,
        shutdown: &CancellationToken,
    ) -> Result<End, StoreError> {
        // A wish from before this term is none.
        let resign = self.resign.notified();
        tokio::pin!(resign);
        resign.as_mut().enable();
        let term = shutdown.child_token();
        let state = StateStore::Etcd(Arc::clone(&store));
        let (driver, handle) = Driver::new(self.core.clone(), state.clone(), records, term.clone());
        let app = http::App::of_term(handle, state, Arc::clone(self), term.clone());
        self.front.set(Role::Leading(
            http::router(app),
            Arc::clone(&session.clock),
            Arc::clone(&store),
        ));
        let sign = self
            .publisher
            .clone()
            .map(|publisher| tokio::spawn(publisher.run(term.clone())));
        let end = tokio::select! {
            ended = driver.run() => ended.map(|()| End::Shutdown),
            error = store.guard() => Err(error),
            () = &mut resign => Ok(End::Resigned),
        };
        let told = match &end {
            Ok(End::Shutdown) => "this master is shutting down",
            _ => "this master does not lead any more",
        };
        self.front.set(Role::Waiting(told.to_owned()));
        term.cancel();
        // Before another can lead.
        if let Some(sign) = sign {
            let _ = sign.await;
        }
        end
    }

    /// This master's own key, so that all know of each other.
    async fn enroll(&self, session: &Session) -> Result<(), StoreError> {
        let key = format!("{}{}", self.place.masters_key(), self.me.address);
        let put = self.put(&key, session);
        // One that was killed a moment ago still has its key, for as long as its lease lasts.
        let patience = Duration::from_secs(self.lease_seconds * 2 + 5);
        let began = Moment::now();
        loop {
            let (when, get) = ([Compare::Created(key.clone(), 0)], [Op::Get(key.clone())]);
            let done = self
                .place
                .etcd
                .transaction(&when, std::slice::from_ref(&put), &get, PATIENCE);
            let mut done = done.await.map_err(EtcdStoreError::from)?;
            let there = done.found.pop().flatten();
            if done.succeeded || there.as_ref().is_some_and(|kv| kv.lease == session.lease) {
                return Ok(());
            }
            if let Some(kv) = &there
                && self.me.was_before(&kv.value)
            {
                // The process that this lease was for is no more.
                let _ = self.place.etcd.revoke(kv.lease, PATIENCE).await;
                continue;
            }
            if Moment::now().since(began) > patience {
                return Err(EtcdStoreError::NameTaken(self.me.address.clone()).into());
            }
            self.wait(
                &format!("a master of the name {} was here a moment ago", self.me.address),
                session,
            )?;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn put(&self, key: &str, session: &Session) -> Op {
        Op::Put {
            key: key.to_owned(),
            value: self.me.info().to_string().into_bytes(),
            lease: session.lease,
        }
    }

    fn wait(&self, why: &str, session: &Session) -> Result<(), EtcdStoreError> {
        if *session.standing.borrow() == Standing::Ended {
            return Err(EtcdStoreError::Deposed("its lease ended while it waited".to_owned()));
        }
        if !matches!(&*self.front.role(), Role::Following(_)) {
            self.front.set(Role::Waiting(why.to_owned()));
        }
        Ok(())
    }

    /// Returns when this master leads, with its epoch. One that resigned lets the others go first.
    async fn campaign(&self, session: &Session, resigned: bool) -> Result<u64, StoreError> {
        let etcd = &self.place.etcd;
        let key = self.place.leader_key();
        let began = Moment::now();
        let grace = Duration::from_secs(if resigned { self.lease_seconds } else { 0 });
        let mut watchdog = Watchdog::default();
        loop {
            let leader = match etcd.get(&key, PATIENCE).await {
                Ok(leader) => leader,
                // Whoever led may lead still: what is asked is handed on to it.
                Err(error) if error.may_pass() => {
                    self.wait(&error.to_string(), session)?;
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(EtcdStoreError::from(error).into()),
            };
            match leader {
                Some(leader) if leader.lease == session.lease => return Ok(leader.created),
                Some(leader) => self.follow(&leader, &mut watchdog).await,
                None if Moment::now().since(began) < grace => {}
                None => {
                    let put = self.put(&key, session);
                    let when = [Compare::Created(key.clone(), 0)];
                    // Whether it was done is seen at the next look.
                    match etcd.transaction(&when, &[put], &[], PATIENCE).await {
                        Ok(_) => continue,
                        Err(error) if error.may_pass() => {}
                        Err(error) => return Err(EtcdStoreError::from(error).into()),
                    }
                }
            }
            self.wait("no master leads yet", session)?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Another leads. If nothing listens where it did, its lease need not run out.
    async fn follow(&self, leader: &Kv, watchdog: &mut Watchdog) {
        let Some(address) = crate::node::leader_in(&leader.value) else {
            let why = format!(
                "a tool of the operator is at work, or the key {} is another's",
                leader.key
            );
            self.front.set(Role::Waiting(why));
            return;
        };
        if self.front.follow(&address) {
            tracing::info!(leader = address, "another master leads");
        }
        if watchdog.is_gone(leader.created, &address).await {
            tracing::warn!(
                leader = address,
                "nothing listens any more where the leader did: its lease is ended"
            );
            if let Err(error) = self.place.etcd.revoke(leader.lease, PATIENCE).await {
                tracing::warn!("the lease could not be ended: {error}");
            }
        }
    }

    /// So that the next one need not wait for the lease's end.
    async fn resign_key(&self, epoch: u64, session: &Session) {
        let key = self.place.leader_key();
        let when = [Compare::Created(key.clone(), epoch)];
        let delete = Op::Delete {
            end: format!("{key}\0"),
            key,
        };
        let etcd = &self.place.etcd;
        // If etcd does not answer the lease ends by itself.
        let _ = etcd.transaction(&when, &[delete], &[], PATIENCE / 2).await;
        let _ = etcd.revoke(session.lease, PATIENCE / 2).await;
    }
}

/// What may be otherwise at the next try, as a sentence.
fn passing(error: StoreError) -> Result<String, StoreError> {
    match &error {
        StoreError::Etcd(EtcdStoreError::Deposed(_)) => Ok(error.to_string()),
        StoreError::Etcd(EtcdStoreError::Etcd(inner)) if inner.may_pass() => Ok(error.to_string()),
        _ => Err(error),
    }
}
