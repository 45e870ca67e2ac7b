//! TLS of the client: whom it trusts, and who it says it is.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Access;

/// Where Debian, and Alpine in the same place, keep the authorities that the system trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("cannot read certificates or a key from {0}: {1}; give a PEM file")]
    Pem(PathBuf, String),
    /// A file without certificates.
    #[error("there is no certificate in {0}; give a PEM file with the authority's")]
    Empty(PathBuf),
    /// Certificate without key, or key without certificate.
    #[error("node.master_cert and node.master_key belong together: set both or neither")]
    Half,
    /// The library's refusal.
    #[error("the client certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The settings, or nothing on a machine without any authorities on which none were given.
pub(crate) fn config(access: &Access) -> Result<Option<ClientConfig>, TlsError> {
    let given = !access.ca.as_os_str().is_empty();
    let file = if given { access.ca.as_path() } else { Path::new(SYSTEM) };
    if !given && !file.exists() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(file)?);
    if added == 0 {
        return Err(TlsError::Empty(file.to_owned()));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let parts = (
        access.certificate.as_os_str().is_empty(),
        access.key.as_os_str().is_empty(),
    );
    Ok(Some(match parts {
        (true, true) => builder.with_no_client_auth(),
        (false, false) => {
            let key = PrivateKeyDer::from_pem_file(&access.key).map_err(|error| pem(&access.key, &error))?;
            builder.with_client_auth_cert(certificates(&access.certificate)?, key)?
        }
        _ => return Err(TlsError::Half),
    }))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| pem(file, &error))
}

fn pem(file: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Pem(file.to_owned(), error.to_string())
}
