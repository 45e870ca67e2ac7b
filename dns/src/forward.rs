//! Asks upstream servers about names that are not the cluster's.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use tokio::sync::Semaphore;

use crate::BindError;

/// Questions that may wait for upstream servers at once, as many as DC/OS's server had; more are answered SERVFAIL.
const MAX_WAITING: usize = 1024;

/// What the upstream servers said.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) soa: Option<Record>,
}

/// The client side: a caching stub resolver.
pub(crate) struct Forwarder {
    resolver: TokioResolver,
    waiting: Semaphore,
}

impl Forwarder {
    /// `None` when there is no upstream server.
    pub(crate) fn new(upstreams: &[SocketAddr]) -> Result<Option<Self>, BindError> {
        if upstreams.is_empty() {
            return Ok(None);
        }
        let servers = upstreams.iter().map(|addr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = addr.port();
            }
            NameServerConfig::new(addr.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        options.max_active_requests = MAX_WAITING;
        let resolver = builder.build().map_err(|error| BindError::Forward(error.to_string()))?;
        Ok(Some(Self {
            resolver,
            waiting: Semaphore::new(MAX_WAITING),
        }))
    }

    /// Asks; `None` when no server answered or too many questions wait already.
    pub(crate) async fn ask(&self, name: &Name, rtype: RecordType) -> Option<Reply> {
        let _place = self.waiting.try_acquire().ok()?;
        match self.resolver.lookup(name.clone(), rtype).await {
            Ok(lookup) => Some(Reply {
                code: ResponseCode::NoError,
                answers: lookup.answers().to_vec(),
                soa: None,
            }),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Some(Reply {
                code: none.response_code,
                answers: Vec::new(),
                soa: none.soa.map(|soa| soa.into_record_of_rdata()),
            }),
            Err(error) => {
                tracing::debug!(%name, %rtype, %error, "no upstream server answered");
                None
            }
        }
    }
}
