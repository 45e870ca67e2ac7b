//! Numbers that look random and are the same for the same seed.

/// splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `below`.
    pub(super) fn up_to(&mut self, below: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(below.max(1)).expect("small")).expect("small")
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, of: usize) -> bool {
        self.up_to(100) < of
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_ne_bytes()[0]
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.up_to(from.len())]
    }
}
