//! Configuration: one annotated default file in the binary, a file, the environment, flags.

mod settings;

pub use settings::*;
