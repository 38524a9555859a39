//! Where the choices of a run come from: bytes, so that a property test can shrink them and a fuzzer can mutate them.

/// Bytes that become choices. When they are used up, every choice is the first.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes)
    }

    pub fn used_up(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        let mut number = 0;
        let mut covered = 1;
        while covered < n {
            let Some((byte, rest)) = self.0.split_first() else { return 0 };
            self.0 = rest;
            number = number << 8 | usize::from(*byte);
            covered <<= 8;
        }
        number % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// Removes and returns one of the items.
    pub fn take<T>(&mut self, items: &mut Vec<T>) -> Option<T> {
        if items.is_empty() { None } else { Some(items.swap_remove(self.below(items.len()))) }
    }
}
