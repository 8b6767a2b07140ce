//! Personal videos: one for each name, gender and template, made once for everyone who asks.
//!
//! Here are names, rendering, the folder of rendered files, and bringing in videos that were made elsewhere.

pub mod files;
mod font;
pub mod import;
mod look;
pub mod name;
pub mod render;
