//! Personal videos: one for each name, gender and template, made once for everyone who asks.
//!
//! [`render`] makes them, [`keep`] says what belongs to one besides its run, [`name`] knows what a name may be.

mod font;
pub mod import;
pub mod keep;
mod look;
pub mod name;
pub mod render;
