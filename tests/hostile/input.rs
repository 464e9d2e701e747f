//! Choices read from bytes, whoever made the bytes: a fuzzer, or a seed. Past the end every choice is the first.

#[derive(Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

/// `length` bytes that a seed stands for (`SplitMix64`).
#[allow(
    clippy::allow_attributes,
    dead_code,
    reason = "a fuzzer brings its own bytes"
)]
pub(crate) fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// From 0 up to and without `end`, which is at most 65,536.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let high = if end > 256 { self.byte() } else { 0 };
        (usize::from(high) << 8 | usize::from(self.byte())) % end.max(1)
    }

    /// True in so many of 256 cases.
    pub(crate) fn chance(&mut self, of_256: u8) -> bool {
        // An input that has ended takes no chances.
        !self.is_empty() && self.byte() < of_256
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Small numbers, the ends of all integer types, and anything else.
    pub(crate) fn extreme(&mut self) -> u64 {
        match self.below(16) {
            small @ 0..6 => small as u64,
            6 => u64::from(u8::MAX),
            7 => u64::from(i32::MAX.unsigned_abs()),
            8 => u64::from(u32::MAX),
            9 => u64::from(u32::MAX) + 1,
            10 => i64::MAX.unsigned_abs(),
            11 => i64::MIN.unsigned_abs(),
            12 => u64::MAX - 1,
            13 => u64::MAX,
            14 => u64::from(self.byte()),
            _ => self.number(),
        }
    }
}
