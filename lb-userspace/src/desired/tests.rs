//! Small steps come to the same as starting over.

use std::sync::Arc;

use model::{AgentId, Backend, TaskId};
use proptest::prelude::*;

use super::*;

const VIEW_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn view() -> NodeView {
    NodeView {
        ip: VIEW_IP,
        agent: None,
    }
}

fn vip(n: u8) -> VipAddress {
    VipAddress {
        addr: IpAddr::V4(Ipv4Addr::new(11, 0, 0, n)),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn service(n: u8, backends: &[(u8, u16)], reset: bool) -> Service {
    let backend = |(addr, weight): &(u8, u16)| {
        let ip = Ipv4Addr::new(10, 0, 0, *addr);
        Backend {
            addr: IpAddr::V4(ip),
            port: 1,
            weight: *weight,
            agent: AgentId::new(format!("A{addr}")),
            agent_ip: ip,
            task: TaskId::new(format!("t{addr}")),
        }
    };
    Service {
        vip: vip(n),
        name: None,
        backends: backends.iter().map(backend).collect(),
        options: ServiceOptions {
            reset,
            ..ServiceOptions::default()
        },
    }
}

proptest! {
    #[test]
    fn steps_in_any_order_end_where_a_fresh_start_does(
        steps in proptest::collection::vec((0_u8..12, proptest::collection::vec((0_u8..6, 0_u16..3), 0..5), any::<bool>()), 1..40)
    ) {
        let mut snapshot = Snapshot::default();
        let mut stepped = desired(&snapshot, &view());
        for (n, backends, reset) in steps {
            let services = &mut snapshot.services;
            if backends.is_empty() {
                services.remove(&vip(n));
            } else {
                services.insert(vip(n), Arc::new(service(n, &backends, reset)));
            }
            let before = stepped.clone();
            let touched = stepped.advance(&snapshot, &view(), [vip(n)]);
            let fresh = desired(&snapshot, &view());
            prop_assert_eq!(&stepped.vips, &fresh.vips);
            for (key, state) in &fresh.backends {
                prop_assert_eq!(stepped.backends.get(key), Some(state));
                if before.backends.get(key) != Some(state) {
                    prop_assert!(touched.backends.contains(key), "{key:?} changed unsaid");
                }
            }
            prop_assert_eq!(stepped.backends.len(), fresh.backends.len());
        }
    }
}
