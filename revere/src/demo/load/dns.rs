//! How the load generator turns its name into an address: anew for each request, by the system or by one server.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;

/// Largest answer taken over UDP.
const MAX_ANSWER: usize = 4096;

/// Why a name gave no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Proto(String),
    #[error("the answer is {0}")]
    Code(ResponseCode),
    #[error("no address in the answer")]
    Empty,
}

/// One lookup; the first address counts.
pub(super) async fn resolve(host: &str, port: u16, server: Option<SocketAddr>) -> Result<SocketAddr, ResolveError> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    match server {
        None => tokio::net::lookup_host((host, port))
            .await?
            .next()
            .ok_or(ResolveError::Empty),
        Some(server) => Ok(SocketAddr::new(ask(host, server).await?, port)),
    }
}

async fn ask(host: &str, server: SocketAddr) -> Result<IpAddr, ResolveError> {
    let name = Name::from_str(&format!("{}.", host.trim_end_matches('.')))
        .map_err(|error| ResolveError::Proto(error.to_string()))?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, RecordType::A));
    let bytes = query.to_vec().map_err(|error| ResolveError::Proto(error.to_string()))?;
    let local: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(&buffer[..length]).map_err(|error| ResolveError::Proto(error.to_string()))?;
        if answer.metadata.id != query.metadata.id {
            continue;
        }
        if answer.metadata.response_code != ResponseCode::NoError {
            return Err(ResolveError::Code(answer.metadata.response_code));
        }
        return answer
            .answers
            .iter()
            .find_map(|record| record.data.ip_addr())
            .ok_or(ResolveError::Empty);
    }
}
