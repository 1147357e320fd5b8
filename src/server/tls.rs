//! TLS of the doors: a certificate and its key from two files, taken anew when they change.
//!
//! Opened by `cli`, which `doctor` does too. Its rule: the files are read from time to time and compared by content, and what cannot
//! be used leaves the last good certificate in place, which log and metric say. The way not taken: waiting for events of
//! the file system, which miss what is mounted over a network and fire halfway through a swap of links.

use crate::config::TlsFiles;
use crate::domain::clock::Clock;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::metrics::Metrics;
use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why files cannot be used: the place and the remedy, nothing of what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}; correct server.tls, or the rights of the file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key make no pair, or of a kind that is not supported.
    #[error("the certificate in {path} and the key cannot be used together: {source}")]
    Pair {
        /// The file of the certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Nobody would believe it any more.
    #[error("the certificate in {path} has expired at {at}")]
    Expired {
        /// The file of the certificate.
        path: PathBuf,
        /// Until when it was valid.
        at: DateTime<Utc>,
    },
}

/// A certificate that can be used.
#[derive(Debug)]
struct Taken {
    config: Arc<ServerConfig>,
    /// Of what the two files held.
    hash: [u8; 32],
    expires_at: DateTime<Utc>,
}

/// TLS with the certificate in force.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    taken: ArcSwap<Taken>,
}

impl Tls {
    /// Reads the files. A certificate that has expired is taken, since there is no better one.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub async fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let taken = read(files).await?.parse(files)?;
        Ok(Self { files: files.clone(), taken: ArcSwap::from_pointee(taken) })
    }

    /// Until when the certificate in force is valid.
    #[must_use]
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.taken.load().expires_at
    }

    /// For one connection: the certificate in force.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.taken.load().config))
    }

    /// Looks at the files until the stop.
    pub fn keep_fresh(self: Arc<Self>, clock: Arc<dyn Clock>, metrics: Metrics, life: &Lifecycle) {
        let soft = life.soft.clone();
        life.spawn("certificates", async move {
            self.show(&metrics);
            let mut refusal = Refusal::default();
            let period = Duration::from_millis(self.files.reload_ms);
            while soft.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
                match self.look(clock.now()).await {
                    Ok(false) => refusal = Refusal::default(),
                    Ok(true) => {
                        refusal = Refusal::default();
                        self.show(&metrics);
                        metrics.tls_reloads.with_label_values(&["taken"]).inc();
                        tracing::info!(expires_at = %self.expires_at(), "a new certificate is taken");
                    }
                    Err(error) if refusal.is_news(&error) => {
                        metrics.tls_reloads.with_label_values(&["refused"]).inc();
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(%error, cause, "the new certificate is not taken, the old one stays");
                    }
                    Err(_) => {}
                }
            }
        });
    }

    fn show(&self, metrics: &Metrics) {
        metrics.tls_expires.set(self.expires_at().timestamp());
    }

    /// Whether another certificate was taken.
    async fn look(&self, now: DateTime<Utc>) -> Result<bool, TlsError> {
        let files = read(&self.files).await?;
        if files.hash() == self.taken.load().hash {
            return Ok(false);
        }
        let next = files.parse(&self.files)?;
        if next.expires_at <= now {
            return Err(TlsError::Expired { path: self.files.cert_file.clone(), at: next.expires_at });
        }
        self.taken.store(Arc::new(next));
        Ok(true)
    }
}

/// Why the files were not taken when they were last looked at.
#[derive(Debug, Default)]
struct Refusal {
    why: String,
    times: u64,
}

impl Refusal {
    /// Whether to say so: the second time, since half of a change is followed by the other half, and then no more.
    fn is_news(&mut self, error: &TlsError) -> bool {
        let why = error.to_string();
        self.times = if why == self.why { self.times.saturating_add(1) } else { 1 };
        self.why = why;
        self.times == 2
    }
}

/// What the files hold.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

async fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let one = async |path: &Path| {
        tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
    };
    Ok(Contents { cert: one(&files.cert_file).await?, key: one(&files.key_file).await? })
}

impl Contents {
    fn hash(&self) -> [u8; 32] {
        let length = (self.cert.len() as u64).to_be_bytes();
        Sha256::new().chain_update(length).chain_update(&self.cert).chain_update(&self.key).finalize().into()
    }

    fn parse(&self, files: &TlsFiles) -> Result<Taken, TlsError> {
        let pem = |path: &Path, what| TlsError::Pem { path: path.to_owned(), what };
        let no_cert = || pem(&files.cert_file, "certificate");
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.cert).collect::<Result<_, _>>().map_err(|_| no_cert())?;
        let leaf = chain.first().ok_or_else(no_cert)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| no_cert())?;
        let expires_at = parsed.validity().not_after.timestamp();
        let expires_at = DateTime::from_timestamp(expires_at, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| pem(&files.key_file, "private key"))?;
        let pair = |source| TlsError::Pair { path: files.cert_file.clone(), source };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Taken { config: Arc::new(config), hash: self.hash(), expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    fn pair(years: i32) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(years, 1, 1);
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    fn write(dir: &TempDir, (cert, key): &(String, String)) {
        std::fs::write(dir.path().join("tls.crt"), cert).expect("it can be written");
        std::fs::write(dir.path().join("tls.key"), key).expect("it can be written");
    }

    fn files(dir: &TempDir) -> TlsFiles {
        let path = |name| dir.path().join(name);
        TlsFiles { cert_file: path("tls.crt"), key_file: path("tls.key"), reload_ms: 10 }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000, 0).expect("a time in 2026")
    }

    #[tokio::test]
    async fn a_change_is_taken_once_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let (first, second) = (pair(2040), pair(2041));
        write(&dir, &first);
        let tls = Tls::open(&files(&dir)).await.expect("it can be used");
        assert_eq!(tls.expires_at().to_rfc3339(), "2040-01-01T00:00:00+00:00");
        assert!(!tls.look(now()).await.expect("nothing has changed"));
        // The certificate came, its key did not yet.
        write(&dir, &(second.0.clone(), first.1.clone()));
        assert!(matches!(tls.look(now()).await, Err(TlsError::Pair { .. })));
        write(&dir, &(String::new(), second.1.clone()));
        assert!(matches!(tls.look(now()).await, Err(TlsError::Pem { what: "certificate", .. })));
        write(&dir, &(second.0.clone(), second.0.clone()));
        assert!(matches!(tls.look(now()).await, Err(TlsError::Pem { what: "private key", .. })));
        write(&dir, &pair(2020));
        assert!(matches!(tls.look(now()).await, Err(TlsError::Expired { .. })));
        std::fs::remove_file(dir.path().join("tls.key")).expect("it is there");
        assert!(matches!(tls.look(now()).await, Err(TlsError::Read { .. })));
        assert_eq!(tls.expires_at().to_rfc3339(), "2040-01-01T00:00:00+00:00", "the first one is still in force");
        write(&dir, &second);
        assert!(tls.look(now()).await.expect("both are there"));
        assert!(!tls.look(now()).await.expect("it is known by now"));
        assert_eq!(tls.expires_at().to_rfc3339(), "2041-01-01T00:00:00+00:00");
    }

    #[test]
    fn what_stays_is_said_once_and_what_passes_never() {
        let no = |what| TlsError::Pem { path: PathBuf::from("x"), what };
        let mut refusal = Refusal::default();
        let said: Vec<bool> =
            ["key", "cert", "cert", "cert", "key", "key"].map(|what| refusal.is_news(&no(what))).to_vec();
        assert_eq!(said, [false, false, true, false, false, true]);
    }

    #[tokio::test]
    async fn errors_name_the_file_and_nothing_that_is_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        write(&dir, &("swordfish".to_owned(), "swordfish".to_owned()));
        let error = Tls::open(&files(&dir)).await.expect_err("it is no certificate").to_string();
        assert!(error.contains("tls.crt") && !error.contains("swordfish"), "{error}");
    }
}
