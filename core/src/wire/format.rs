//! The formats of a link, and what each brought. Each end says in its handshake which it speaks; a link is of the newest that
//! both do, and nothing goes out on it that the other end could not read. So nodes can be replaced by newer programs one after the
//! other, and back.
//!
//! | format | brought |
//! | --- | --- |
//! | 2 | the clock's messages as they are |
//! | 3 | [`super::Body::Room`] |
//! | 4 | [`super::Body::Scrub`], [`super::Body::Scrubbed`], [`super::Body::Differs`] |
//! | 5 | [`super::Body::Read`], and the answers to it |
//!
//! A message that older programs do not know must be one that nothing depends on: who does not get it goes on as before there was
//! any.

/// The newest format that this program speaks.
pub const FORMAT: u16 = 5;
/// The oldest.
pub const FORMAT_OLDEST: u16 = 2;
