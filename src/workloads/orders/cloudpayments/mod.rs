//! CloudPayments: what it tells us ([`Notice`], signed), and what we ask it to do (refunds).
//!
//! By <https://developers.cloudpayments.ru>: notifications are POSTed as a form or as JSON, signed by HMAC-SHA256 with the
//! API secret, and answered `{"code":N}`; whatever is not answered 0 comes again. The API takes JSON with Basic
//! authentication; a request under an `X-Request-ID` that it knows is answered as the first time, for an hour.
//!
//! Payments in one stage are served; one that only blocks money is not taken for a payment.

mod client;
mod notice;
mod signature;

pub use client::CloudPayments;
pub use notice::{Misshapen, Notice};
pub use signature::{Unsigned, verify};
