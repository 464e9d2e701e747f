//! A database file of bbolt, read page by page. Nothing but its two first pages has checksums, so everything else is
//! checked against the bounds of its page and of the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::former::Broken;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const META_BYTES: usize = 64;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;

const PAGE_SIZES: [u64; 8] = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072];

/// Far more than a file of this world needs.
const DEPTH_MAX: u32 = 24;

/// The largest page, with those that belong to it: a value of the log is not larger than a batch of messages.
const PAGE_BYTES_MAX: u64 = 1 << 30;

/// Where a file's bytes come from.
pub trait ReadAt {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(buffer.len());
        let from = self.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

#[derive(Debug)]
pub struct Bolt<S> {
    source: S,
    page_bytes: u64,
    root: u64,
    /// No page has this number or a higher one.
    end: u64,
}

/// A part of the file, by its name.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// The page where it begins.
    At(u64),
    /// The page itself.
    Inline(Vec<u8>),
}

/// What is done with a key and its value; false when that was enough.
type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, Broken>;

/// The same; a byte says first whether the value is a bucket.
type EachElement<'a> = &'a mut dyn FnMut(bool, &[u8], &[u8]) -> Result<bool, Broken>;

impl<S: ReadAt> Bolt<S> {
    pub fn open(source: S) -> Result<Self, Broken> {
        let first = meta(&source, 0);
        let second = match &first {
            Some(meta) => self::meta(&source, meta.page_bytes),
            None => PAGE_SIZES.iter().find_map(|&size| meta(&source, size)),
        };
        let newest = first
            .into_iter()
            .chain(second)
            .max_by_key(|meta| meta.transaction);
        let meta = newest.ok_or("it is no database of bbolt")?;
        Ok(Self {
            source,
            page_bytes: meta.page_bytes,
            root: meta.root,
            end: meta.end,
        })
    }

    /// `None` where there is none of that name.
    pub fn bucket(&self, name: &str) -> Result<Option<Bucket>, Broken> {
        let mut found = None;
        self.walk(self.root, 0, &[], &mut |is_bucket, key, value| {
            if is_bucket && key == name.as_bytes() {
                found = Some(bucket(value)?);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    /// Keys and values of it from a key on, in the order of keys. Pages that lie before are not read.
    pub fn each(&self, bucket: &Bucket, from: &[u8], each: Each<'_>) -> Result<(), Broken> {
        let mut all = |_: bool, key: &[u8], value: &[u8]| each(key, value);
        match bucket {
            Bucket::At(page) => self.walk(*page, 0, from, &mut all).map(drop),
            Bucket::Inline(page) => elements(page, 0, &mut |element| match element {
                Element::Leaf(_, key, _) if key < from => Ok(true),
                Element::Leaf(is_bucket, key, value) => all(is_bucket, key, value),
                Element::Branch(..) => Err("a branch stands inside a value".into()),
            })
            .map(drop),
        }
    }

    fn walk(
        &self,
        number: u64,
        depth: u32,
        from: &[u8],
        each: EachElement<'_>,
    ) -> Result<bool, Broken> {
        if depth > DEPTH_MAX {
            return Err(format!("page {number} is reached through too many others").into());
        }
        let page = self.page(number)?;
        // Only the last page below that does not begin behind `from` can hold it.
        let mut last = None;
        let goes_on = elements(&page, number, &mut |element| match element {
            Element::Leaf(_, key, _) if key < from => Ok(true),
            Element::Leaf(is_bucket, key, value) => each(is_bucket, key, value),
            Element::Branch(key, child) if key <= from => {
                last = Some(child);
                Ok(true)
            }
            Element::Branch(_, child) => {
                if let Some(last) = last.take()
                    && !self.walk(last, depth + 1, from, each)?
                {
                    return Ok(false);
                }
                self.walk(child, depth + 1, from, each)
            }
        })?;
        match last {
            Some(child) if goes_on => self.walk(child, depth + 1, from, each),
            Some(_) | None => Ok(goes_on),
        }
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Broken> {
        let broken = |why: &str| Broken::from(format!("page {number} {why}"));
        if number >= self.end {
            return Err(broken("lies behind the end of what is used"));
        }
        let unread = |_| broken("cannot be read: the file is shorter");
        let at = number.checked_mul(self.page_bytes);
        let at = at.ok_or_else(|| broken("lies behind every file"))?;
        let mut header = [0; HEADER_BYTES];
        self.source.read_at(at, &mut header).map_err(unread)?;
        if u64_at(&header, 0) != Some(number) {
            return Err(broken("says that it is another one"));
        }
        let more = u64::from(u32_at(&header, 12).unwrap_or_default());
        let bytes = (more + 1) * self.page_bytes;
        if number + more >= self.end || bytes > PAGE_BYTES_MAX {
            return Err(broken("is longer than the file"));
        }
        let mut page = vec![0; usize::try_from(bytes).unwrap_or_default()];
        self.source.read_at(at, &mut page).map_err(unread)?;
        Ok(page)
    }
}

enum Element<'a> {
    /// Whether its value is a bucket, key and value.
    Leaf(bool, &'a [u8], &'a [u8]),
    /// The first key below it, and its page.
    Branch(&'a [u8], u64),
}

fn elements(
    page: &[u8],
    number: u64,
    each: &mut dyn FnMut(Element<'_>) -> Result<bool, Broken>,
) -> Result<bool, Broken> {
    let broken = || Broken::from(format!("page {number} holds an element that leaves it"));
    let flags = u16_at(page, 8).ok_or_else(broken)?;
    let count = usize::from(u16_at(page, 10).ok_or_else(broken)?);
    for index in 0..count {
        let at = HEADER_BYTES + index * ELEMENT_BYTES;
        let field = |offset: usize| u32_at(page, at + offset).ok_or_else(broken);
        let slice = |from: usize, length: u32| {
            let end = from.checked_add(length as usize)?;
            page.get(from..end)
        };
        let goes_on = match flags {
            BRANCH => {
                let key = slice(at + field(0)? as usize, field(4)?).ok_or_else(broken)?;
                let child = u64_at(page, at + 8).ok_or_else(broken)?;
                each(Element::Branch(key, child))?
            }
            LEAF => {
                let key_at = at + field(4)? as usize;
                let key = slice(key_at, field(8)?).ok_or_else(broken)?;
                let value = slice(key_at + key.len(), field(12)?).ok_or_else(broken)?;
                each(Element::Leaf(field(0)? & 1 == 1, key, value))?
            }
            other => return Err(format!("page {number} is of kind {other:#x}").into()),
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

fn bucket(value: &[u8]) -> Result<Bucket, Broken> {
    let root = u64_at(value, 0);
    match (root, value.get(HEADER_BYTES..)) {
        (Some(0), Some(page)) => Ok(Bucket::Inline(page.to_vec())),
        (Some(page), Some(_)) => Ok(Bucket::At(page)),
        _ => Err("a bucket in it is cut".into()),
    }
}

struct Meta {
    page_bytes: u64,
    root: u64,
    end: u64,
    transaction: u64,
}

fn meta(source: &impl ReadAt, page: u64) -> Option<Meta> {
    let mut meta = [0; META_BYTES];
    source.read_at(page + HEADER_BYTES as u64, &mut meta).ok()?;
    let is_known = u32_at(&meta, 0)? == MAGIC && u32_at(&meta, 4)? == VERSION;
    let page_bytes = u64::from(u32_at(&meta, 8)?);
    let is_whole = fnv(&meta[..META_BYTES - 8]) == u64_at(&meta, META_BYTES - 8)?;
    (is_known && is_whole && page_bytes >= 512).then_some(Meta {
        page_bytes,
        root: u64_at(&meta, 16)?,
        end: u64_at(&meta, 40)?,
        transaction: u64_at(&meta, 48)?,
    })
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    #[test]
    fn a_meta_page_of_a_real_file_is_known_by_its_checksum() {
        let mut page = bytes(
            "00000000000000000400000000000000edda0ced0200000000100000000000000a000000000000000000000000000000\
             ffffffffffffffff0e000000000000006a000000000000005dbaf99402d0c98f",
        );
        let read = meta(&page, 0).unwrap();
        assert_eq!(
            (read.page_bytes, read.root, read.transaction),
            (4096, 10, 106)
        );
        page[40] ^= 1;
        assert!(meta(&page, 0).is_none());
    }

    #[test]
    fn no_bytes_make_it_panic_or_go_on_for_ever() {
        let mut page = vec![0; 8192];
        // A branch that leads to itself.
        page[..8].copy_from_slice(&0_u64.to_le_bytes());
        page[8..12].copy_from_slice(&[1, 0, 2, 0]);
        let bolt = Bolt {
            source: page,
            page_bytes: 4096,
            root: 0,
            end: 2,
        };
        assert!(bolt.bucket("logs").is_err());
        assert!(Bolt::open(vec![0; 4096]).is_err());
    }

    const PAGE: usize = 512;

    /// With keys and, of a branch, the pages below; values of a leaf are empty.
    fn page(number: u64, flags: u16, elements: &[(u64, u64)]) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[..8].copy_from_slice(&number.to_le_bytes());
        page[8..10].copy_from_slice(&flags.to_le_bytes());
        page[10..12].copy_from_slice(&u16::try_from(elements.len()).unwrap().to_le_bytes());
        for (index, (key, child)) in elements.iter().enumerate() {
            let at = HEADER_BYTES + index * ELEMENT_BYTES;
            let key_at = HEADER_BYTES + elements.len() * ELEMENT_BYTES + index * 8;
            let place = u32::try_from(key_at - at).unwrap().to_le_bytes();
            let size = 8_u32.to_le_bytes();
            let element = if flags == BRANCH {
                [&place[..], &size, &child.to_le_bytes()].concat()
            } else {
                [&[0; 4][..], &place, &size, &[0; 4]].concat()
            };
            page[at..at + ELEMENT_BYTES].copy_from_slice(&element);
            page[key_at..key_at + 8].copy_from_slice(&key.to_be_bytes());
        }
        page
    }

    /// Counts what is read of it.
    struct Counted {
        pages: Vec<u8>,
        reads: std::cell::RefCell<std::collections::BTreeSet<u64>>,
    }

    impl ReadAt for Counted {
        fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.reads.borrow_mut().insert(at / PAGE as u64);
            self.pages.read_at(at, buffer)
        }
    }

    #[test]
    fn keys_are_read_from_one_on_and_pages_before_it_are_not() {
        let pages = [
            page(0, BRANCH, &[(10, 1), (20, 2), (30, 3)]),
            page(1, LEAF, &[(10, 0), (11, 0)]),
            page(2, LEAF, &[(20, 0), (25, 0)]),
            page(3, LEAF, &[(30, 0), (31, 0)]),
        ];
        let read = |from: u64, enough: usize| {
            let bolt = Bolt {
                source: Counted {
                    pages: pages.concat(),
                    reads: std::cell::RefCell::default(),
                },
                page_bytes: PAGE as u64,
                root: 0,
                end: 4,
            };
            let mut keys = Vec::new();
            let mut each = |key: &[u8], _: &[u8]| {
                keys.push(u64::from_be_bytes(key.try_into().unwrap()));
                Ok::<_, Broken>(keys.len() < enough)
            };
            bolt.each(&Bucket::At(0), &from.to_be_bytes(), &mut each)
                .unwrap();
            (
                keys,
                bolt.source.reads.take().into_iter().collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(0, 9), (vec![10, 11, 20, 25, 30, 31], vec![0, 1, 2, 3]));
        assert_eq!(read(11, 2), (vec![11, 20], vec![0, 1, 2]));
        assert_eq!(read(20, 9), (vec![20, 25, 30, 31], vec![0, 2, 3]));
        assert_eq!(read(26, 1), (vec![30], vec![0, 2, 3]));
        assert_eq!(read(32, 9), (vec![], vec![0, 3]));
    }
}
