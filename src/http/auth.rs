//! Who a caller is and what they may do: each handler names the scope that it needs as its first argument.
//!
//! A key comes as `Authorization: Bearer otk_...`. On an open server (loopback, no keys) no key is needed; there a web
//! page could call us through its visitor's browser, so requests that a foreign page may have caused are refused: those
//! for a host name that is not this machine's (DNS rebinding), and those with a foreign `Origin`.

use std::marker::PhantomData;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;

use super::AppState;
use super::problem::{Code, Problem};
use crate::access::{Principal, Scope};

/// A caller who may do what `R` names.
pub struct Caller<R> {
    pub principal: Principal,
    right: PhantomData<R>,
}

/// A scope as a type.
pub trait Right {
    const SCOPE: Scope;
}

macro_rules! rights {
    ($($name:ident),*) => {$(
        pub struct $name;
        impl Right for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}
rights!(Read, Enqueue, Work, Operate, Admin);

impl<R: Right> FromRequestParts<AppState> for Caller<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let principal = authenticate(parts, state).await?;
        need(&principal, R::SCOPE)?;
        Ok(Self { principal, right: PhantomData })
    }
}

/// For a handler that needs one scope more when it is asked for more.
pub fn need(principal: &Principal, scope: Scope) -> Result<(), Problem> {
    if principal.may(scope) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, format!("this key does not have the scope \"{scope}\"")))
}

async fn authenticate(parts: &Parts, state: &AppState) -> Result<Principal, Problem> {
    let nobody = |detail| Problem::new(Code::Unauthorized, detail);
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| nobody("the Authorization header is not readable"))?;
        let key = match text.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
            _ => return Err(nobody("send the key as \"Authorization: Bearer otk_...\"")),
        };
        return state.access.verify(key).await?.ok_or_else(|| nobody("this key is not valid"));
    }
    let open = state.access.anonymous().await?;
    let principal = open.ok_or_else(|| nobody("send an API key as \"Authorization: Bearer otk_...\""))?;
    refuse_foreign_pages(parts)?;
    Ok(principal)
}

fn refuse_foreign_pages(parts: &Parts) -> Result<(), Problem> {
    let refused = |detail| Err(Problem::new(Code::Forbidden, detail));
    let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST).or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    if host.is_some_and(|host| !is_this_machine(host)) {
        return refused("without an API key this server answers for localhost only");
    }
    let page = text(ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
    if page.is_some_and(|host| !is_this_machine(host)) {
        return refused("without an API key this server does not answer pages from elsewhere");
    }
    Ok(())
}

/// Whether a host, with or without its port, names this machine.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for ours in
            ["localhost", "localhost:7700", "LOCALHOST.", "app.localhost:1", "127.0.0.1:80", "127.9.9.9", "[::1]:7"]
        {
            assert!(is_this_machine(ours), "{ours}");
        }
        for foreign in
            ["", "evil.test", "127.0.0.1.evil.test", "localhost.evil.test:80", "10.0.0.1", "[fe80::1]", "null"]
        {
            assert!(!is_this_machine(foreign), "{foreign}");
        }
    }
}
