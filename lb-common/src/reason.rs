//! Why a packet or a connect ended as it did: one enum for counters, metric labels and logs.

/// What becomes of the packet or call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Goes on, changed or not.
    Pass,
    /// Ends here.
    Drop,
    /// Leaves on an interface without touching the stack.
    Transmit,
}

/// Which program counts the reason. Within one hook the counters add up to what came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// The XDP program of an uplink.
    Xdp,
    /// The egress program of an uplink.
    Egress,
    /// The socket hooks.
    Socket,
}

impl Hook {
    /// The word for metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Egress => "egress",
            Self::Socket => "socket",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $label:literal, $hook:ident, $verdict:ident;)*) => {
        /// Why. The number is the index of the counter; numbers are never reused within one layout version.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name = $value,)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word for metric labels and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// Which program counts it.
            pub const fn hook(self) -> Hook {
                match self {
                    $(Self::$name => Hook::$hook,)*
                }
            }

            /// What became of the packet.
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)*
                }
            }

            /// The counter's index.
            #[inline(always)]
            pub const fn index(self) -> u32 {
                self as u32
            }
        }
    };
}

reasons! {
    /// Not an IPv4 frame.
    NotIpv4 = 0, "not_ipv4", Xdp, Pass;
    /// Headers do not fit in the frame or contradict each other; the stack throws it away.
    Truncated = 1, "truncated", Xdp, Pass;
    /// IPv4, but neither for a VIP nor from a peer's tunnel.
    NotVip = 2, "not_vip", Xdp, Pass;
    /// Inside the VIP range, but no such VIP: the stack answers that it is unreachable.
    UnknownVip = 3, "unknown_vip", Xdp, Pass;
    /// Inside the VIP range with a protocol that is not balanced: the stack answers.
    VipProtocol = 4, "vip_protocol", Xdp, Pass;
    /// The node has not told its own facts yet.
    NotConfigured = 5, "not_configured", Xdp, Pass;
    /// Given to a backend on this node.
    LocalBackend = 6, "local_backend", Xdp, Pass;
    /// Came through the tunnel and was given to a backend on this node.
    TunnelDelivered = 7, "tunnel_delivered", Xdp, Pass;
    /// Sent through the tunnel on the interface it came from.
    TunnelSent = 8, "tunnel_sent", Xdp, Transmit;
    /// Sent through the tunnel by redirect: on another interface, or on a veth.
    TunnelRedirected = 9, "tunnel_redirected", Xdp, Transmit;
    /// A fragment for a VIP.
    Fragment = 10, "fragment", Xdp, Drop;
    /// The VIP has no backend that takes connections.
    NoBackend = 11, "no_backend", Xdp, Drop;
    /// The next hop's link address is not known.
    NoNeighbour = 12, "no_neighbour", Xdp, Drop;
    /// No route to the backend's node, or one that cannot be used.
    NoRoute = 13, "no_route", Xdp, Drop;
    /// Does not fit the path once wrapped.
    TooBig = 14, "too_big", Xdp, Drop;
    /// The driver gave no room in front of the packet.
    NoHeadroom = 15, "no_headroom", Xdp, Drop;
    /// A tunnel packet from somebody who is no peer.
    TunnelNotPeer = 16, "tunnel_not_peer", Xdp, Drop;
    /// A tunnel packet whose inside is no whole TCP packet, or not marked.
    TunnelMalformed = 17, "tunnel_malformed", Xdp, Drop;
    /// A tunnel packet whose inside is for no VIP.
    TunnelNotVip = 18, "tunnel_not_vip", Xdp, Drop;
    /// A tunnel packet for a backend that this node does not have.
    TunnelNotLocal = 19, "tunnel_not_local", Xdp, Drop;
    /// An answer whose source was turned back into the VIP.
    Restored = 20, "restored", Egress, Pass;
    /// Not an answer of a balanced flow.
    NotBalanced = 21, "not_balanced", Egress, Pass;
    /// An answer that could not be rewritten.
    RestoreFailed = 22, "restore_failed", Egress, Drop;
    /// A call that is not for a VIP.
    SocketOther = 23, "socket_other", Socket, Pass;
    /// A connect that was given a backend.
    SocketBalanced = 24, "socket_balanced", Socket, Pass;
    /// Inside the VIP range, but no such VIP: refused.
    SocketUnknownVip = 25, "socket_unknown_vip", Socket, Drop;
    /// The VIP has no backend that takes connections: refused.
    SocketNoBackend = 26, "socket_no_backend", Socket, Drop;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_labels_unique() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(reason.index()), Ok(i));
            assert_eq!(Reason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(), 1);
        }
    }
}
