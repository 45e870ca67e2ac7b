//! Round trips, limits and truncation of the wire format.
