//! What nats-streaming-server keeps in files, from any source of bytes. All numbers in them are little-endian.
//!
//! | file | what it knows |
//! |---|---|
//! | [`records`] | the frame of records, and every way in which it can be broken |
//! | [`index`] | entries of the index of messages |
//! | [`slice`] | messages: which ones a slice holds, and where |
//! | [`journals`] | clients and subscriptions, which are what is left after all records were read |
//! | [`limits`] | which of the messages in the files the limits have dropped long since |
//! | [`writing`] | the same the other way round |
//! | [`checksum`] | of records and entries |
//!
//! Opening the files is `store/files`'.

pub mod checksum;
pub mod index;
pub mod journals;
pub mod limits;
pub mod records;
pub mod slice;
pub mod writing;
