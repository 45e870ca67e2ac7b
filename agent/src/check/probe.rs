//! One question over the network: connect from inside the task's namespace, ask, and judge the answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::{CheckAddress, CheckResponse, Probe, ReadinessCheck, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};

use super::http::{Body, get};
use super::{Answer, Place, Reply, socket, tls};

/// Status codes that say well, as Marathon and Mesos have it.
const WELL: std::ops::RangeInclusive<u16> = 200..=399;

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A health check that is no command.
pub(super) async fn health(probe: &Probe, place: &Place) -> Answer {
    match probe {
        Probe::Command(_) => Answer::Silent,
        Probe::Tcp { at, port } => match socket::connect(place, address(*at, place, *port)).await {
            Ok(_) => Answer::Alive,
            Err(error) => Answer::Dead(format!("port {port}: {error}")),
        },
        Probe::Http {
            scheme,
            at,
            port,
            path,
            ignore_1xx,
        } => {
            let to = address(*at, place, *port);
            match ask(*scheme, place, to, path, Body::Skip).await {
                Ok(reply) => judge(&reply, *ignore_1xx, port, path),
                Err(error) => Answer::Dead(format!("port {port}: {error}")),
            }
        }
    }
}

/// A readiness check; who asked decides what the answer means.
pub(super) async fn readiness(check: &ReadinessCheck, place: &Place) -> Answer {
    let to = address(CheckAddress::Task, place, check.port);
    let body = if check.keep_response { Body::Keep } else { Body::Skip };
    match ask(check.scheme, place, to, &check.path, body).await {
        Ok(reply) => Answer::Response(CheckResponse {
            status: reply.status,
            content_type: reply.content_type,
            body: String::from_utf8_lossy(&reply.body).into_owned(),
        }),
        Err(error) => Answer::Dead(format!("port {}: {error}", check.port)),
    }
}

fn address(at: CheckAddress, place: &Place, port: u16) -> SocketAddr {
    let ip = match at {
        CheckAddress::Task => IpAddr::V4(place.address),
        CheckAddress::LoopbackV4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        CheckAddress::LoopbackV6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, port)
}

async fn ask(scheme: Scheme, place: &Place, to: SocketAddr, path: &str, body: Body) -> io::Result<Reply> {
    let tcp = socket::connect(place, to).await?;
    let mut stream: Box<dyn Stream> = match scheme {
        Scheme::Http => Box::new(tcp),
        Scheme::Https => Box::new(tls::wrap(tcp, to.ip()).await?),
    };
    get(&mut stream, &to.to_string(), path, body).await
}

fn judge(reply: &Reply, ignore_1xx: bool, port: &u16, path: &str) -> Answer {
    let Reply { status, reason, .. } = reply;
    if WELL.contains(status) {
        Answer::Alive
    } else if *status < 200 && ignore_1xx {
        Answer::Silent
    } else {
        let said = format!("port {port}: {path} answered {status} {reason}");
        Answer::Dead(said.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_and_three_hundreds_are_well() {
        for (status, ignore, wanted) in [
            (200, false, Some(true)),
            (204, false, Some(true)),
            (302, false, Some(true)),
            (399, false, Some(true)),
            (400, false, Some(false)),
            (503, true, Some(false)),
            (100, false, Some(false)),
            (102, true, None),
        ] {
            let reply = Reply {
                status,
                reason: "X".to_owned(),
                content_type: String::new(),
                body: Vec::new(),
            };
            let got = match judge(&reply, ignore, &80, "/up") {
                Answer::Alive => Some(true),
                Answer::Dead(cause) => {
                    assert_eq!(cause, format!("port 80: /up answered {status} X"));
                    Some(false)
                }
                _ => None,
            };
            assert_eq!(got, wanted, "{status}");
        }
    }
}
