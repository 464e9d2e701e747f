//! CRC-32 by any polynomial, as `file_crc_poly` of the former server chooses it.

use std::fmt;

use crc::{Algorithm, Crc, Table};

/// What a former server uses unless it is configured otherwise.
pub const IEEE: u32 = 0xEDB8_8320;

pub struct Checksum {
    crc: Crc<u32, Table<16>>,
    polynomial: u32,
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Checksum").field(&self.polynomial).finish()
    }
}

impl Checksum {
    /// `polynomial` in its reversed form, as in the flag. A few bytes of memory are never given back: make one for each
    /// store that is read.
    pub fn new(polynomial: u32) -> Self {
        let algorithm = Algorithm {
            width: 32,
            poly: polynomial.reverse_bits(),
            init: u32::MAX,
            refin: true,
            refout: true,
            xorout: u32::MAX,
            check: 0,
            residue: 0,
        };
        Self {
            crc: Crc::<u32, Table<16>>::new(Box::leak(Box::new(algorithm))),
            polynomial,
        }
    }

    pub fn of(&self, bytes: &[u8]) -> u32 {
        self.crc.checksum(bytes)
    }

    pub fn is_usual(&self) -> bool {
        self.polynomial == IEEE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_taken_in_their_reversed_form() {
        assert_eq!(Checksum::new(IEEE).of(b"123456789"), 0xCBF4_3926);
        // Castagnoli's.
        assert_eq!(Checksum::new(0x82F6_3B78).of(b"123456789"), 0xE306_9283);
    }
}
