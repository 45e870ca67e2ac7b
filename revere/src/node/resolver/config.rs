//! Settings of where names are answered, where else they are asked for, and which resolver file says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{ResolverFile, SYSTEM, nameservers, original, search, servers};
use crate::node::NodeError;
use crate::node::config::{Config, addresses, wrong};
use crate::node::forwarding::upstreams_of;

/// The checked form.
#[derive(Debug)]
pub(in crate::node) struct Resolving {
    pub(in crate::node) listen: Vec<SocketAddr>,
    pub(in crate::node) upstreams: Vec<SocketAddr>,
    pub(in crate::node) search: Vec<String>,
    /// The machine's resolver file, if it shall be this node's.
    pub(in crate::node) file: Option<ResolverFile>,
}

impl Resolving {
    /// What is not set is as the machine's own resolver file had it.
    pub(in crate::node) fn new(config: &Config, ip: Ipv4Addr) -> Result<Self, NodeError> {
        let default = || vec![SocketAddr::from(([198, 51, 100, 1], 53)), SocketAddr::from((ip, 53))];
        let listen = addresses("dns_listen", &config.dns_listen)?.unwrap_or_else(default);
        let machine = original_of(config);
        let theirs = || upstreams_of(nameservers(&machine), &listen);
        let upstreams = addresses("dns_upstreams", &config.dns_upstreams)?.unwrap_or_else(theirs);
        let search = if config.resolv_search.is_empty() {
            search(&machine)
        } else {
            let domains = config.resolv_search.iter().map(|name| domain(name));
            domains.collect::<Result<_, _>>()?
        };
        Ok(Self {
            file: resolver_file(config, &listen, &search, &upstreams)?,
            listen,
            upstreams,
            search,
        })
    }
}

/// The machine's resolver file as it was before this node.
fn original_of(config: &Config) -> String {
    let path = &config.resolv_conf;
    let path = if path.as_os_str().is_empty() {
        Path::new(SYSTEM)
    } else {
        path
    };
    original(path, &config.state_dir)
}

/// The resolver file to own, if one is set.
fn resolver_file(
    config: &Config,
    listen: &[SocketAddr],
    search: &[String],
    upstreams: &[SocketAddr],
) -> Result<Option<ResolverFile>, NodeError> {
    let path = &config.resolv_conf;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let servers = servers(listen);
    let refused = |want| Err(wrong("resolv_conf", &path.display().to_string(), want));
    if !path.is_absolute() {
        return refused("write an absolute path");
    }
    if !config.dns || servers.is_empty() {
        return refused("the node's name server must be on and listen on port 53: resolver files can name no other");
    }
    Ok(Some(ResolverFile::new(
        path,
        &config.state_dir,
        &servers,
        search,
        upstreams,
    )))
}

/// A search domain, which must be one word in a resolver file.
fn domain(name: &str) -> Result<String, NodeError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
        return Err(wrong("resolv_search", name, "write a domain such as marathon.mesos"));
    }
    Ok(name.to_owned())
}
