//! How to reach Redis: the address as fred reads it, and what TLS trusts and shows.

use std::path::Path;
use std::sync::Arc;

use fred::types::config::{Config, TlsConfig, TlsConnector};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;

use super::Error;
use crate::config;

/// # Errors
/// `Settings`; the text does not repeat the address, which may hold a password.
pub(super) fn read(settings: &config::Redis) -> Result<Config, Error> {
    let mut config = Config::from_url(settings.url.expose_secret()).map_err(|_| {
        refused(
            "the address must look like redis://[[user:]password@]host[:port][/database], \
             redis-cluster://host:port?node=host:port or redis-sentinel://host:port?sentinelServiceName=name",
        )
    })?;
    config.tls = if settings.uses_tls() { Some(TlsConfig::from(connector(&settings.tls)?)) } else { None };
    Ok(config)
}

fn connector(tls: &config::Tls) -> Result<TlsConnector, Error> {
    if tls.ca.as_os_str().is_empty() {
        return TlsConnector::default_rustls().map_err(|error| refused(error.to_string()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(authorities(&tls.ca)?);
    let config = if tls.cert.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unreadable(&tls.key, &error))?;
        builder.with_client_auth_cert(certificates(&tls.cert)?, key).map_err(|error| unreadable(&tls.cert, &error))?
    };
    Ok(TlsConnector::from(config))
}

/// Those of the file alone: who names one does not mean the system's as well.
fn authorities(ca: &Path) -> Result<RootCertStore, Error> {
    let mut trusted = RootCertStore::empty();
    for certificate in certificates(ca)? {
        trusted.add(certificate).map_err(|error| unreadable(ca, &error))?;
    }
    Ok(trusted)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, &error))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(path, &error))?;
    if all.is_empty() { Err(refused(format!("{} holds no certificate", path.display()))) } else { Ok(all) }
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> Error {
    refused(format!("{} is of no use for TLS: {error}", path.display()))
}

fn refused(detail: impl Into<String>) -> Error {
    Error::Settings { detail: detail.into() }
}
