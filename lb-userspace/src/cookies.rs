//! SYN cookies: whether this node can have them sent from its uplinks, and where its backends listen that are asked for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, UdpSocket};

use aya::maps::MapError;
use lb_common::{CookieCount, ListenPlace, NodeConfig, node_flags};

use crate::guard::Place;
use crate::routes::{Routes, told};
use crate::{BackendKey, Lb};

/// When listeners are asked for cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynCookies {
    /// Never.
    Off,
    /// While more than so many SYNs a second come for one VIP on one CPU.
    Above(u32),
    /// For every SYN.
    Always,
}

impl Default for SynCookies {
    /// A core takes several times as many through its stack; few VIPs are called so often in earnest, and asking does them no
    /// harm.
    fn default() -> Self {
        Self::Above(2_000)
    }
}

/// The kernel's own setting; each network namespace has one.
const SETTING: &str = "/proc/sys/net/ipv4/tcp_syncookies";
/// Lets sockets be bound to addresses that are not there.
const NONLOCAL: &str = "/proc/sys/net/ipv4/ip_nonlocal_bind";
const NONLOCAL6: &str = "/proc/sys/net/ipv6/ip_nonlocal_bind";

impl SynCookies {
    /// Why none are sent though they are wanted; `None`: they are, or nobody wants them. `loaded`: the kernel took the program.
    pub(crate) fn hindered(self, loaded: bool) -> Option<String> {
        if self == Self::Off {
            return None;
        }
        if !loaded {
            return Some("this kernel did not take the program for SYN cookies".to_owned());
        }
        match fs::read_to_string(SETTING) {
            Ok(text) if text.trim() == "0" => Some(format!(
                "{SETTING} is 0: the kernel makes no cookies; write 1 to it and restart the node"
            )),
            Ok(_) => None,
            Err(error) => Some(format!(
                "could not read {SETTING}: {error}; a kernel built without CONFIG_SYN_COOKIES makes none"
            )),
        }
    }

    /// Puts it into the node's facts.
    pub(crate) fn tell(self, node: &mut NodeConfig) {
        node.flags &= !node_flags::SYN_COOKIES;
        node.syn_threshold = match self {
            Self::Off => return,
            Self::Above(rate) => rate.max(1),
            Self::Always => 0,
        };
        node.flags |= node_flags::SYN_COOKIES;
    }
}

/// Cookies could not be counted.
#[derive(Debug, thiserror::Error)]
#[error("could not read the map COOKIE_COUNTS: {0}")]
pub struct CookiesError(#[from] MapError);

impl Lb {
    /// Why no SYN is answered with a cookie from here although the configuration wants it; `None`: nothing hinders it.
    pub fn cookies_hindered(&self) -> Option<&str> {
        self.cookies_hindered.as_deref()
    }

    /// What became of questions for cookies since the maps were made.
    pub fn cookie_counts(&self) -> Result<Vec<(CookieCount, u64)>, CookiesError> {
        let all = CookieCount::ALL.iter();
        all.map(|what| Ok((*what, self.maps.cookie_counts.get(&what.index(), 0)?.iter().sum())))
            .collect()
    }

    /// Tells the program which backends' listeners it may ask: of those that listen in the uplinks' own network namespace (`listening`)
    /// the ones at an address of it; of the others those whose address is on a link into another namespace. Whether they listen
    /// there the program sees itself.
    pub(crate) fn tell_places(
        &mut self,
        here: &BTreeMap<BackendKey, Place>,
        listening: &BTreeSet<BackendKey>,
    ) -> Result<(), MapError> {
        let namespaces = self.namespaces(here);
        let mut told = BTreeSet::new();
        for (key, place) in here {
            let namespace = match namespaces.get(&key.addr) {
                Some(Some(ListenPlace::OWN)) if !listening.contains(key) => continue,
                Some(Some(namespace)) => *namespace,
                _ => continue,
            };
            let entry = ListenPlace {
                generation: place.generation,
                namespace,
            };
            if self.maps.listen_places.get(&place.index, 0).ok() != Some(entry) {
                self.maps.listen_places.insert(place.index, entry, 0)?;
            }
            told.insert(place.index);
        }
        // The first time: what an earlier daemon left.
        let before = match self.book.guards.places.take() {
            Some(places) => places,
            None => self.maps.listen_places.keys().collect::<Result<_, _>>()?,
        };
        for index in before.difference(&told) {
            // Its generation would refuse it anyway.
            let _ = self.maps.listen_places.remove(index);
        }
        self.book.guards.places = Some(told);
        Ok(())
    }

    /// The namespaces that sockets at these backends' addresses are in, as [`ListenPlace::namespace`] has them; asked once for each
    /// address until the next full look.
    fn namespaces(&mut self, here: &BTreeMap<BackendKey, Place>) -> BTreeMap<IpAddr, Option<i32>> {
        let mut known = std::mem::take(&mut self.book.guards.namespaces);
        if self.config.syn_cookies == SynCookies::Off {
            return known;
        }
        let addresses: BTreeSet<IpAddr> = here.keys().map(|key| key.addr).collect();
        known.retain(|addr, _| addresses.contains(addr));
        let mut routes = None;
        for addr in addresses {
            known.entry(addr).or_insert_with(|| {
                if is_own(addr) {
                    return Some(ListenPlace::OWN);
                }
                let routes = routes.get_or_insert_with(open_routes).as_ref()?;
                let ifindex = told(addr, routes.link_to(addr))?;
                told(addr, routes.link(ifindex).map(|link| link.far_namespace))
            });
        }
        self.book.guards.namespaces.clone_from(&known);
        known
    }
}

fn open_routes() -> Option<Routes> {
    let opened = Routes::open();
    if let Err(error) = &opened {
        tracing::warn!(%error, "no SYN cookies for tasks with an address of their own");
    }
    opened.ok()
}

/// Whether an address is one of this network namespace: a listener there takes what comes for it. Where sockets may have any
/// address nobody knows.
fn is_own(addr: IpAddr) -> bool {
    let setting = if addr.is_ipv4() { NONLOCAL } else { NONLOCAL6 };
    let any = fs::read_to_string(setting).is_ok_and(|text| text.trim() != "0");
    !any && UdpSocket::bind((addr, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_becomes_a_flag_and_a_rate() {
        let mut node = NodeConfig {
            flags: node_flags::REDIRECT,
            ..NodeConfig::default()
        };
        for (setting, on, rate) in [
            (SynCookies::Above(7), true, 7),
            (SynCookies::Above(0), true, 1),
            (SynCookies::Always, true, 0),
            (SynCookies::Off, false, 0),
        ] {
            setting.tell(&mut node);
            assert_eq!(node.flags & node_flags::SYN_COOKIES != 0, on, "{setting:?}");
            assert_eq!(node.syn_threshold, rate, "{setting:?}");
            assert_ne!(node.flags & node_flags::REDIRECT, 0, "other flags stay");
        }
    }

    #[test]
    fn what_hinders_is_said_and_nothing_hinders_who_wants_none() {
        assert_eq!(SynCookies::Off.hindered(false), None);
        let said = SynCookies::Always.hindered(false).expect("no program");
        assert!(said.contains("kernel did not take"), "{said}");
    }
}
