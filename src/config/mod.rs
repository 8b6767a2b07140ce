//! Configuration: one annotated default file in the binary, a file, the environment, flags.
//!
//! [`load`] reads them and names the source of every value; [`check`] says what does not fit together; `show` prints
//! what is in force without its secrets.

mod check;
mod layer;
mod load;
mod settings;
mod show;
mod signing;

pub use check::{BUILTIN_PROCESSORS, Problem, check};
pub use layer::{Flag, Origin};
pub(crate) use load::LOCK_VARIABLES;
pub use load::{DEFAULTS, Entry, Error, Loaded, Options, load};
pub use settings::*;
pub use show::{Row, masked};
pub use signing::{SECRET_PREFIX, SecretError, secret_bytes};
