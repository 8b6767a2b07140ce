//! An exhaustive search through both guarded designs: every order of the steps of their parties, every moment at which a
//! lock may run out, a Redis forget, a connection break or a holder be paused.
//!
//! The models are small enough to be searched whole, and each is also searched with one thing broken: a search that
//! does not find those finds nothing.

mod lease;
mod search;
mod unit;
