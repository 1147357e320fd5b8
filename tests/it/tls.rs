//! TLS of the doors over real sockets: HTTP and gRPC, and certificates that change under a running service.

use crate::support::{ANSWERED, Service, config, eventually};
use assize::config::TlsFiles;
use assize::domain::clock::SystemClock;
use assize::runtime::lifecycle::Lifecycle;
use assize::server::{Guard, Tls};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use rcgen::{CertificateParams, KeyPair};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// A certificate for the loopback, and its key.
pub(super) fn pair() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// Puts files in place as Kubernetes does for a Secret: a new folder, and a link that is swapped in one step.
fn mount(dir: &Path, version: &str, (cert, key): (&str, &str)) {
    let folder = dir.join(version);
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("tls.crt"), cert).expect("it can be written");
    std::fs::write(folder.join("tls.key"), key).expect("it can be written");
    symlink(version, dir.join("..data_new")).expect("a link");
    std::fs::rename(dir.join("..data_new"), dir.join("..data")).expect("the swap");
}

/// Whether somebody who believes only this certificate gets an answer, on a new connection.
async fn believes(base: &str, cert: &str) -> Option<reqwest::Version> {
    let root = reqwest::Certificate::from_pem(cert.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([root]).build().expect("a client");
    let response = client.get(format!("{base}/livez")).send().await.ok()?;
    response.status().is_success().then(|| response.version())
}

async fn exports(base: &str, cert: &str) -> bool {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(cert)).domain_name("localhost");
    let endpoint = Endpoint::from_shared(base.to_owned()).and_then(|e| e.tls_config(tls)).expect("an address");
    let Ok(channel) = endpoint.connect().await else { return false };
    TraceServiceClient::new(channel).export(ExportTraceServiceRequest::default()).await.is_ok()
}

#[tokio::test]
async fn certificates_are_exchanged_while_it_runs_and_broken_ones_are_not_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let ((first, first_key), (second, second_key)) = (pair(), pair());
    mount(dir.path(), "v1", (&first, &first_key));
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).expect("a link");
    }
    let path = |name| dir.path().join(name);
    let files = TlsFiles { cert_file: path("tls.crt"), key_file: path("tls.key"), reload_ms: 20 };
    let tls = Arc::new(Tls::open(&files).await.expect("it can be used"));
    let service = Service::start(config(&[ANSWERED])).await;
    let metrics = service.app.bench.metrics.clone();
    let life = Lifecycle::default();
    Arc::clone(&tls).keep_fresh(Arc::new(SystemClock), metrics.clone(), &life);
    let base = service.door(Guard::default(), Some(tls)).await;

    assert_eq!(believes(&base, &first).await, Some(reqwest::Version::HTTP_2), "HTTP/2 is agreed on in the handshake");
    assert!(exports(&base, &first).await, "gRPC comes in by the same certificate");
    assert_eq!(believes(&base, &second).await, None);
    let plain = service.http.get(base.replace("https", "http")).send().await;
    assert!(plain.is_err(), "nothing is said in clear: {plain:?}");

    mount(dir.path(), "v2", (&second, &second_key));
    eventually("the second certificate is in force", || async { believes(&base, &second).await }).await;
    assert!(exports(&base, &second).await && believes(&base, &first).await.is_none());
    assert_eq!(metrics.tls_reloads.with_label_values(&["taken"]).get(), 1);
    assert!(metrics.tls_expires.get() > 0);

    // A key that does not fit, then nothing at all.
    mount(dir.path(), "v3", (&first, &second_key));
    let refused = metrics.tls_reloads.with_label_values(&["refused"]);
    eventually("the third is refused", || async { (refused.get() == 1).then_some(()) }).await;
    std::fs::remove_file(dir.path().join("..data")).expect("the link is there");
    eventually("its absence is told", || async { (refused.get() == 2).then_some(()) }).await;
    assert!(believes(&base, &second).await.is_some() && exports(&base, &second).await, "the second stays");
    mount(dir.path(), "v4", (&first, &first_key));
    eventually("a good one is taken again", || async { believes(&base, &first).await }).await;
    life.hard.cancel();
}
