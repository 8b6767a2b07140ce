//! Personal videos: one for each name, gender and template, made once for everyone who asks.
//!
//! [`render`] makes them, [`keep`] says what belongs to one besides its run, [`wish`] and [`name`] know what may be asked for.

mod font;
pub mod import;
pub mod keep;
mod look;
pub mod name;
pub mod render;
pub mod wish;
