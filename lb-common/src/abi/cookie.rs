//! SYN cookies: where backends listen that can be asked for them, and how asking went.

/// Where a backend of this node listens, by its index, in `LISTEN_PLACES`. What is not there is not asked for cookies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenPlace {
    /// The backend's generation.
    pub generation: u32,
    /// The kernel's number of the socket's network namespace, as the uplinks' own knows it; [`ListenPlace::OWN`]: the uplinks'
    /// own.
    pub namespace: i32,
}

impl ListenPlace {
    /// See [`ListenPlace::namespace`].
    pub const OWN: i32 = -1;
}

/// Seconds after a VIP's last cookie in which one may still come back: the kernel takes none that is older than two of its
/// minutes.
pub const COOKIE_SECONDS: u32 = 120;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $label:literal;)*) => {
        /// What became of questions for cookies; the number is the index in `COOKIE_COUNTS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CookieCount {
            $($(#[$doc])* $name = $value,)*
        }

        impl CookieCount {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word for metric labels.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

counts! {
    /// A SYN was answered with a cookie.
    Sent = 0, "sent";
    /// The listener has room for the SYN, or may make no cookies: it got the SYN.
    NotNeeded = 1, "not_needed";
    /// Nobody listens, or no way back is known: the SYN went its ordinary way.
    NotPossible = 2, "not_possible";
    /// A cookie came back and was right: the flow is known from now on.
    Accepted = 3, "accepted";
    /// What was of no known flow belonged to a connection that the backend has.
    Known = 4, "known";
    /// It was no right cookie, and nobody else may have the flow: dropped.
    Refused = 5, "refused";
    /// It was no right cookie, but another backend may have the flow: it went there.
    Elsewhere = 6, "elsewhere";
}

impl CookieCount {
    /// The counter's index.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}
