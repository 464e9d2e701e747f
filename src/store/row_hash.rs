//! What Postgres' `hash_record_extended` computes of a row of `messages`, computed here: an import compares what it sent with
//! what the tables hold, and need not read it back.
//!
//! Hash partitions rest on these functions, so that all versions of Postgres compute the same. They are the hash of
//! `src/common/hashfn.c` (Bob Jenkins' lookup3, with a seed of 64 bits) and, of a row, that of
//! `src/backend/utils/adt/rowtypes.c`. Machines that are big-endian, which Postgres hardly runs on, compute others.

use crate::core::message::Message;

/// Over rows of `messages`, what [`of_row`] is of one.
pub(super) const SQL: &str =
    "hash_record_extended(ROW(client_id, guid, reply, data, published_at_ns), sequence)";

/// Begin of the state, beside the length of what is hashed.
const START: u32 = 0x9e37_79b9_u32.wrapping_add(3_923_095);

/// The hash of a row whose payload is stored as `data`.
pub(super) fn of_row(message: &Message, data: &[u8]) -> i64 {
    let seed = message.sequence.0;
    let columns = [
        of_bytes(message.client_id.as_str().as_bytes(), seed),
        of_bytes(message.guid.as_str().as_bytes(), seed),
        of_bytes(message.reply.as_bytes(), seed),
        of_bytes(data, seed),
        of_int8(message.published_at.0, seed),
    ];
    let hash = columns.iter().fold(0_u64, |hash, column| {
        hash.wrapping_mul(31).wrapping_add(*column)
    });
    hash.cast_signed()
}

/// `hashint8extended`: a number hashes like an `int4` of the same value.
fn of_int8(number: i64, seed: u64) -> u64 {
    let [low, high] = halves(number.cast_unsigned());
    let folded = low ^ if number >= 0 { high } else { !high };
    let mut state = State::new(4, seed);
    state.a = state.a.wrapping_add(folded);
    state.end()
}

/// `hash_bytes_extended`, as it is of `text` and `bytea`.
fn of_bytes(bytes: &[u8], seed: u64) -> u64 {
    // No value of Postgres has 2 GiB.
    let mut state = State::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX), seed);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        state.add(word(&block[..4]), word(&block[4..8]), word(&block[8..]));
        state.mix();
    }
    let mut rest = [0; 12];
    let left = blocks.remainder();
    rest[..left.len()].copy_from_slice(left);
    // The lowest byte of the last word is that of the length.
    state.add(word(&rest[..4]), word(&rest[4..8]), word(&rest[8..]) << 8);
    state.end()
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The low one, and the high one.
fn halves(number: u64) -> [u32; 2] {
    let bytes = number.to_le_bytes();
    [word(&bytes[..4]), word(&bytes[4..])]
}

struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(length: u32, seed: u64) -> Self {
        let start = START.wrapping_add(length);
        let mut state = Self {
            a: start,
            b: start,
            c: start,
        };
        if seed != 0 {
            let [low, high] = halves(seed);
            state.add(high, low, 0);
            state.mix();
        }
        state
    }

    fn add(&mut self, a: u32, b: u32, c: u32) {
        self.a = self.a.wrapping_add(a);
        self.b = self.b.wrapping_add(b);
        self.c = self.c.wrapping_add(c);
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        step(a, c, *b, 4);
        step(b, a, *c, 6);
        step(c, b, *a, 8);
        step(a, c, *b, 16);
        step(b, a, *c, 19);
        step(c, b, *a, 4);
    }

    fn end(self) -> u64 {
        let Self {
            mut a,
            mut b,
            mut c,
        } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        u64::from(b) << 32 | u64::from(c)
    }
}

/// `first` takes in `second`, which takes in `third`.
fn step(first: &mut u32, second: &mut u32, third: u32, by: u32) {
    *first = first.wrapping_sub(*second) ^ second.rotate_left(by);
    *second = second.wrapping_add(third);
}

#[cfg(test)]
mod tests {
    use super::{of_bytes, of_int8};

    /// `SELECT hashtextextended('…', seed)`, on Postgres 15.
    #[test]
    fn texts_hash_as_in_postgres() {
        let all = "0123456789abcdefghijklmnopqrstuvwxyz";
        let facts: [(usize, i64, i64); 15] = [
            (0, 0, -6_939_563_903_564_495_251),
            (1, 0, 2_234_665_679_637_250_028),
            (3, 1, -7_080_683_008_708_574_148),
            (4, 1, -2_025_753_853_327_684_753),
            (5, 7, -876_983_753_192_468_194),
            (7, 7, -3_959_466_408_805_281_826),
            (8, 4_294_967_296, -1_945_164_457_210_993_273),
            (9, -1, -773_702_852_356_202_129),
            (11, 12, 3_070_325_575_426_254_861),
            (12, 12, -2_756_800_279_729_827_508),
            (13, i64::MAX, 2_927_248_621_976_659_329),
            (23, i64::MIN, 1_092_819_304_276_913_915),
            (24, 5, 6_403_450_946_476_950_828),
            (25, 5, 7_529_818_642_143_948_345),
            (36, 1_796_048_515_218, 6_512_773_828_255_516_347),
        ];
        for (length, seed, expected) in facts {
            let hash = of_bytes(&all.as_bytes()[..length], seed.cast_unsigned());
            assert_eq!(hash.cast_signed(), expected, "{length} bytes, seed {seed}");
        }
    }

    /// `SELECT hashint8extended(number, seed)`, on Postgres 15.
    #[test]
    fn numbers_hash_as_in_postgres() {
        let facts: [(i64, i64, i64); 7] = [
            (0, 0, 4_154_612_158_245_552_303),
            (1, 0, -3_670_598_878_359_251_130),
            (-1, 3, -8_246_732_482_095_048_772),
            (1_099_511_627_781, 3, -8_660_395_942_665_377_424),
            (
                -1_099_511_627_781,
                8_589_934_592,
                -6_043_242_031_089_701_499,
            ),
            (i64::MIN, 1, 2_560_836_655_869_490_746),
            (i64::MAX, -1, 6_110_074_166_949_006_181),
        ];
        for (number, seed, expected) in facts {
            let hash = of_int8(number, seed.cast_unsigned());
            assert_eq!(hash.cast_signed(), expected, "{number}, seed {seed}");
        }
    }
}
