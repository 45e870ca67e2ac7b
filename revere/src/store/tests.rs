//! Reopening, deleting, damage.
