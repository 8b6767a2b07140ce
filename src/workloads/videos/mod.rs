//! Personal videos: one for each name, gender and template, made once for everyone who asks.
//!
//! Here are the parts without queues or SQL: names, rendering, and the folder of rendered files.

pub mod files;
pub mod import;
pub mod name;
pub mod render;
