//! Which flows the load balancer knows: all of them, a client's, or a virtual address's.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use lb_userspace::{Flow, flow_state};
use model::VipAddress;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::lb::{Refused, locked, refuse, resolve};

/// Flows of one answer: a terminal's worth and more; the whole table can be hundreds of thousands.
const FLOWS: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    from: Option<String>,
    vip: Option<String>,
    proto: Option<String>,
}

/// Which flows are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    client: Option<IpAddr>,
    port: Option<u16>,
    /// The VIP's number on this node.
    vip: Option<u16>,
}

impl Wanted {
    fn client(text: &str) -> Result<Self, Refused> {
        let (client, port) = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
            (Ok(both), _) => (both.ip(), Some(both.port())),
            (_, Ok(addr)) => (addr, None),
            _ => {
                return Err((
                    StatusCode::BAD_REQUEST,
                    format!("`{text}` is no ADDRESS or ADDRESS:PORT"),
                ));
            }
        };
        Ok(Self {
            client: Some(client),
            port,
            vip: None,
        })
    }

    fn fits(self, flow: &Flow) -> bool {
        self.client.is_none_or(|client| client == flow.client)
            && self.port.is_none_or(|port| port == flow.port)
            && self.vip.is_none_or(|vip| vip == flow.vip)
    }
}

fn wanted(api: &Api, ask: &Ask) -> Result<Wanted, Refused> {
    let mut wanted = ask.from.as_deref().map(Wanted::client).transpose()?.unwrap_or_default();
    if let Some(name) = &ask.vip {
        let vip: VipAddress = resolve(api, name, ask.proto.as_deref())?;
        let number = locked(api)?.inner().number_of(&vip);
        let unknown = || (StatusCode::NOT_FOUND, format!("this node has no VIP {vip}"));
        wanted.vip = Some(number.ok_or_else(unknown)?);
    }
    Ok(wanted)
}

/// `revere flows`: `GET /revere/v1/flows?from=ADDRESS[:PORT]&vip=NAME:PORT&proto=tcp`, what the flow tables hold now of that, at most
/// [`FLOWS`] of it. `complete` tells whether that is everything, `all` how many there are.
pub(super) async fn flows(State(api): State<Api>, Query(ask): Query<Ask>) -> Response {
    match try_flows(&api, &ask).await {
        Ok(answer) => Json(answer).into_response(),
        Err((status, message)) => refuse(status, message),
    }
}

async fn try_flows(api: &Api, ask: &Ask) -> Result<Value, Refused> {
    let failed = |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let wanted = wanted(api, ask)?;
    let tables = locked(api)?.flow_tables().map_err(|error| failed(&error))?;
    let walked = tokio::task::spawn_blocking(move || {
        let (mut flows, mut all) = (Vec::new(), 0_usize);
        let done = tables.each(|flow| {
            if wanted.fits(&flow) {
                all += 1;
                if flows.len() < FLOWS {
                    flows.push(flow);
                }
            }
        });
        done.map(|()| (flows, all))
    });
    let walked = walked.await.map_err(|error| failed(&error))?;
    let (flows, all) = walked.map_err(|error| failed(&error))?;
    let mut plane = locked(api)?;
    let (lb, now) = (plane.inner(), lb_userspace::monotonic_seconds());
    let rows = flows.iter().map(|flow| {
        json!({
            "client": SocketAddr::new(flow.client, flow.port).to_string(),
            "vip": lb.vip_of(flow.vip).map(|vip| vip.to_string()),
            "backend": lb.backend_of(flow.value.backend).map(|backend| backend.to_string()),
            "state": flow_state(flow.value.state),
            "flags": flow.value.flags,
            "idle_seconds": now.saturating_sub(u64::from(flow.value.seen)),
        })
    });
    let rows: Vec<Value> = rows.collect();
    Ok(json!({ "all": all, "complete": all == rows.len(), "flows": rows }))
}

#[cfg(test)]
mod tests {
    use lb_userspace::FlowValue;

    use super::*;

    #[test]
    fn a_client_is_an_address_with_or_without_a_port() {
        let flow = |port, vip| Flow {
            client: IpAddr::from([192, 0, 2, 7]),
            port,
            vip,
            value: FlowValue::default(),
            half: false,
        };
        let one = Wanted::client("192.0.2.7:4000").expect("both");
        assert!(one.fits(&flow(4000, 1)) && !one.fits(&flow(4001, 1)));
        let all = Wanted::client("192.0.2.7").expect("an address");
        assert!(all.fits(&flow(4000, 1)) && all.fits(&flow(4001, 2)));
        let of_vip = Wanted { vip: Some(2), ..all };
        assert!(!of_vip.fits(&flow(4000, 1)) && of_vip.fits(&flow(4000, 2)));
        assert!(!Wanted::client("192.0.2.8").expect("an address").fits(&flow(4000, 1)));
        let (status, message) = Wanted::client("nobody").expect_err("no address");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(message.contains("`nobody`"), "{message}");
    }
}
