//! Requests and jobs over HTTP, as their callers see them.

mod following;
mod jobs;
mod operations;
mod refusals;
