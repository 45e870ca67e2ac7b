//! Masters and members of etcd that do not hear each other, while everything else on the wire goes on.

use anyhow::Result;

use super::{Cluster, NODES, underlay};

/// Ports of masters, of etcd's clients and of its members among themselves.
const PORTS: &str = "{ 5050, 2379, 2380 }";

/// Which packets between one node and the others are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All.
    Both,
    /// Those to it: it is heard and hears nothing.
    ToIt,
    /// Those from it.
    FromIt,
}

impl Cluster {
    /// Cuts master and etcd of a node off from the others, in place of an earlier cut.
    pub fn cut(&self, number: u8, cut: Cut) -> Result<()> {
        let others: Vec<String> = (1..=NODES).filter(|one| *one != number).map(underlay).collect();
        let others = format!("{{ {} }}", others.join(", "));
        let chain = |hook: &str, address: &str, lost: bool| {
            let rules = if lost {
                format!("ip {address} {others} tcp dport {PORTS} drop; ip {address} {others} tcp sport {PORTS} drop;")
            } else {
                String::new()
            };
            format!("chain {hook} {{ type filter hook {hook} priority -10; {rules} }};")
        };
        let table = format!(
            "table ip cut {{}}; delete table ip cut; table ip cut {{ {} {} }};",
            chain("input", "saddr", cut != Cut::FromIt),
            chain("output", "daddr", cut != Cut::ToIt)
        );
        self.node(number).sh(&format!("nft '{table}'")).map(drop)
    }

    /// Ends a cut; nothing if there is none.
    pub fn mend(&self, number: u8) -> Result<()> {
        let table = "table ip cut {}; delete table ip cut";
        self.node(number).sh(&format!("nft '{table}'")).map(drop)
    }
}
