//! Access to the bytes of a frame, inside its bounds.

/// The (linear part of the) bytes of a frame.
pub(crate) trait Frame {
    fn start(&self) -> usize;
    fn end(&self) -> usize;

    /// A header at an offset, if it lies inside the frame whole.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let address = self.start() + offset;
        (address + size_of::<T>() <= self.end()).then_some(address as *mut T)
    }

    /// How many bytes.
    #[inline(always)]
    fn len(&self) -> usize {
        self.end() - self.start()
    }
}
