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
    /// The programs on interfaces of local clients.
    Local,
    /// The socket hooks.
    Socket,
}

impl Hook {
    /// The word for metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Egress => "egress",
            Self::Local => "local",
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
    /// Neither IPv4 nor IPv6.
    NotIp = 0, "not_ip", Xdp, Pass;
    /// Headers do not fit in the frame or contradict each other; the stack throws it away.
    Truncated = 1, "truncated", Xdp, Pass;
    /// Neither for a VIP nor of a balanced flow nor from a peer's tunnel.
    NotVip = 2, "not_vip", Xdp, Pass;
    /// Inside a VIP range, but no such VIP: the stack answers that it is unreachable.
    UnknownVip = 3, "unknown_vip", Xdp, Pass;
    /// For a VIP range with a protocol that is not balanced: the stack answers.
    VipProtocol = 4, "vip_protocol", Xdp, Pass;
    /// The node has not told its own facts yet.
    NotConfigured = 5, "not_configured", Xdp, Pass;
    /// Given to a backend on this node through the stack.
    LocalBackend = 6, "local_backend", Xdp, Pass;
    /// Came through the tunnel and was given to a backend on this node through the stack.
    TunnelDelivered = 7, "tunnel_delivered", Xdp, Pass;
    /// An ICMP error about a balanced flow, turned towards its backend through the stack.
    ErrorDelivered = 8, "error_delivered", Xdp, Pass;
    /// An echo request to a VIP: the stack answers.
    Echo = 9, "echo", Xdp, Pass;
    /// More extension headers or VLAN tags than are walked.
    TooDeep = 10, "too_deep", Xdp, Pass;
    /// For a backend of this node that has stopped, and nobody takes it over: the stack resets it.
    LatePacket = 11, "late_packet", Xdp, Pass;
    /// An answer of a backend on a node without daemon, with address and ports of the flow restored, for the stack to route.
    NatRestoredPass = 12, "nat_restored_stack", Xdp, Pass;

    /// Sent through the tunnel on the interface it came from.
    TunnelSent = 32, "tunnel_sent", Xdp, Transmit;
    /// A SYN answered with a cookie.
    SynCookie = 33, "syn_cookie", Xdp, Transmit;
    /// A too-big message sent back.
    TooBigReplied = 34, "too_big_replied", Xdp, Transmit;
    /// A reset sent back for a flow whose backend is gone.
    ResetReplied = 35, "reset_replied", Xdp, Transmit;
    /// Sent on, on the interface it came from, with translated source.
    NatSent = 36, "nat_sent", Xdp, Transmit;
    /// An answer with restored source sent on, on the interface it came from.
    NatRestored = 37, "nat_restored", Xdp, Transmit;
    /// Sent through the tunnel by redirect: on another interface, or on a veth.
    TunnelRedirected = 40, "tunnel_redirected", Xdp, Transmit;
    /// Given to a backend on this node past the stack.
    LocalRedirected = 41, "local_redirected", Xdp, Transmit;
    /// Came through the tunnel and was given to a backend on this node past the stack.
    TunnelDeliveredRedirected = 42, "tunnel_delivered_redirected", Xdp, Transmit;
    /// A tunnel packet of a flow that is not here, sent to the node of its previous backend.
    SecondChance = 43, "second_chance", Xdp, Transmit;
    /// As `TooBigReplied` and `ResetReplied`, by redirect.
    ReplyRedirected = 44, "reply_redirected", Xdp, Transmit;
    /// As `NatSent` and `NatRestored`, by redirect.
    NatRedirected = 45, "nat_redirected", Xdp, Transmit;
    /// As `SynCookie`, by redirect.
    CookieRedirected = 46, "syn_cookie_redirected", Xdp, Transmit;

    /// A fragment whose first part was not seen.
    Fragment = 64, "fragment", Xdp, Drop;
    /// The VIP has no backend that takes connections.
    NoBackend = 65, "no_backend", Xdp, Drop;
    /// The next hop's link address is not known.
    NoNeighbour = 66, "no_neighbour", Xdp, Drop;
    /// No route to the backend's node, or one that cannot be used.
    NoRoute = 67, "no_route", Xdp, Drop;
    /// Does not fit the path once wrapped, and nothing could be told to the sender.
    TooBig = 68, "too_big", Xdp, Drop;
    /// The driver gave no room in front of the packet.
    NoHeadroom = 69, "no_headroom", Xdp, Drop;
    /// A tunnel packet from somebody who is no peer.
    TunnelNotPeer = 70, "tunnel_not_peer", Xdp, Drop;
    /// A tunnel packet whose inside is no whole packet of a balanced protocol, or of another tunnel version.
    TunnelMalformed = 71, "tunnel_malformed", Xdp, Drop;
    /// A tunnel packet whose inside is for no VIP.
    TunnelNotVip = 72, "tunnel_not_vip", Xdp, Drop;
    /// A tunnel packet for a backend that this node does not have.
    TunnelNotLocal = 73, "tunnel_not_local", Xdp, Drop;
    /// The source is not among those the VIP allows.
    SourceRefused = 74, "source_refused", Xdp, Drop;
    /// The VIP's rate of new flows is used up.
    RateLimited = 75, "rate_limited", Xdp, Drop;
    /// The VIP has as many open flows as it may.
    FlowLimit = 76, "flow_limit", Xdp, Drop;
    /// While cookies are sent: of no known flow, for a backend that knows no such connection, and no cookie of its own.
    BadCookie = 77, "bad_cookie", Xdp, Drop;
    /// The same client port already reaches the same backend through another VIP.
    TupleConflict = 78, "tuple_conflict", Xdp, Drop;
    /// No reserved source port is free.
    NoNatPort = 79, "no_nat_port", Xdp, Drop;
    /// The flow of an ICMP error is not known.
    ErrorUnknown = 80, "error_unknown", Xdp, Drop;
    /// Opens a connection to a backend that has just stopped listening; the client tries again in a moment, when the tables
    /// say who else there is.
    BackendGone = 81, "backend_gone", Xdp, Drop;
    /// Comes from outside with this node's own address as its source. The kernel would refuse it too, were it not for
    /// translated answers to containers elsewhere (`accept_local`).
    OwnSource = 82, "own_source", Xdp, Drop;
    /// For a backend on a node without daemon, over IPv6, and this node has no IPv6 address to send from.
    NoNatAddress = 83, "no_nat_address", Xdp, Drop;

    /// An answer whose source was turned back into the VIP.
    Restored = 96, "restored", Egress, Pass;
    /// Not an answer of a balanced flow.
    NotBalanced = 97, "not_balanced", Egress, Pass;
    /// An ICMP error of a backend whose addresses were turned back into the VIP's.
    ErrorRestored = 98, "error_restored", Egress, Pass;
    /// An answer that could not be rewritten.
    RestoreFailed = 99, "restore_failed", Egress, Drop;

    /// A packet of a local client that the socket hooks cannot reach, not for a VIP.
    LocalOther = 104, "local_other", Local, Pass;
    /// Such a packet for a VIP, given to a backend.
    LocalBalanced = 105, "local_balanced", Local, Pass;
    /// An answer to such a client, restored.
    LocalRestored = 106, "local_restored", Local, Pass;
    /// Such a packet for a VIP without backends, or for no VIP of the range: the stack answers.
    LocalRefused = 107, "local_refused", Local, Pass;
    /// Such a packet that could not be rewritten, or whose backend has just stopped listening.
    LocalFailed = 108, "local_failed", Local, Drop;

    /// A call that is not for a VIP.
    SocketOther = 112, "socket_other", Socket, Pass;
    /// A call that was given a backend.
    SocketBalanced = 113, "socket_balanced", Socket, Pass;
    /// Inside a VIP range, but no such VIP: refused.
    SocketUnknownVip = 114, "socket_unknown_vip", Socket, Drop;
    /// The VIP has no backend that takes connections: refused.
    SocketNoBackend = 115, "socket_no_backend", Socket, Drop;
    /// The VIP's rate or number of flows is used up: refused.
    SocketLimited = 116, "socket_limited", Socket, Drop;
    /// The VIP does not allow this node or the address the socket is bound to: refused.
    SocketSourceRefused = 117, "socket_source_refused", Socket, Drop;
}

/// Reasons of [`Hook::Xdp`] below this number pass.
pub const XDP_TX_FIRST: u32 = 32;
/// From here on they leave by redirect.
pub const XDP_REDIRECT_FIRST: u32 = 40;
/// From here on they are dropped.
pub const XDP_DROP_FIRST: u32 = 64;
/// Rooms for counters; every reason's number is below.
pub const COUNTER_ROOMS: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_labels_are_unique_and_verdicts_have_their_ranges() {
        assert!(Reason::ALL.windows(2).all(|pair| pair[0].index() < pair[1].index()));
        for reason in Reason::ALL {
            assert!(reason.index() < COUNTER_ROOMS);
            assert_eq!(Reason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(), 1);
            if reason.hook() == Hook::Xdp {
                let verdict = match reason.index() {
                    n if n < XDP_TX_FIRST => Verdict::Pass,
                    n if n < XDP_DROP_FIRST => Verdict::Transmit,
                    _ => Verdict::Drop,
                };
                assert_eq!(reason.verdict(), verdict, "{reason:?}");
            }
        }
    }
}
