//! Races: whatever comes at the very moment of something else is neither lost nor done twice.

mod clocks;
mod operators;
mod settling;
