//! Certificate and key of the encrypted transports: read at start, read again when the files change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where certificate and key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("name server: can't read {path}: {source}; it must be PEM and readable by this user")]
    Read {
        /// Which.
        path: PathBuf,
        /// The reason.
        source: pem::Error,
    },
    /// No certificate in the file.
    #[error("name server: {0} holds no certificate")]
    Empty(PathBuf),
    /// They do not fit each other, or are of a kind that cannot be used.
    #[error("name server: certificate and key in {path} can't be used: {source}")]
    Use {
        /// The certificate's file.
        path: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
}

/// The certificate of now.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    now: ArcSwap<CertifiedKey>,
    /// What the files looked like when they were read last.
    seen: Mutex<[Option<Stamp>; 2]>,
}

type Stamp = (SystemTime, u64);

impl Certificate {
    pub(crate) fn open(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let seen = stamps(&files);
        Ok(Arc::new(Self {
            now: ArcSwap::from_pointee(read(&files)?),
            seen: Mutex::new(seen),
            files,
        }))
    }

    /// Looks at the files from time to time, without end.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// Reads the files again if they changed. What cannot be used changes nothing: the certificate of before stays.
    pub(crate) fn look(&self) {
        let found = stamps(&self.files);
        if std::mem::replace(&mut *self.seen.lock(), found) == found {
            return;
        }
        match read(&self.files) {
            Ok(key) => {
                self.now.store(Arc::new(key));
                tracing::info!(certificate = %self.files.certificate.display(), "new certificate of the name server");
            }
            Err(error) => tracing::warn!("{error}; going on with the certificate of before"),
        }
    }

    /// Settings of one protocol over TLS.
    pub(crate) fn config(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Use {
                path: self.files.certificate.clone(),
                source,
            })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl Certificate {
    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        self.now.load_full()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(unreadable(&files.certificate))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(files.certificate.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable(&files.key))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Use {
        path: files.certificate.clone(),
        source,
    })
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    let stamp = |path: &Path| -> io::Result<Stamp> {
        let about = fs::metadata(path)?;
        Ok((about.modified()?, about.len()))
    };
    [&files.certificate, &files.key].map(|path| stamp(path).ok())
}
