//! Certificates for tests of TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority, a server of this machine and a client, as PEM files in a folder that ends with this.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes new ones, which nobody else trusts.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: String| std::fs::write(folder.path().join(name), pem).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", authority.pem());
        for (name, hosts) in [("server", vec!["127.0.0.1".to_owned(), "localhost".to_owned()]), ("client", vec![])] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, &authority).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}-key.pem"), key.serialize_pem());
        }
        Self { folder }
    }

    /// The path of the authority's certificate.
    #[must_use]
    pub fn authority(&self) -> String {
        self.path("ca.pem")
    }

    /// The path of the server's certificate, for `127.0.0.1` and `localhost`.
    #[must_use]
    pub fn server_certificate(&self) -> String {
        self.path("server.pem")
    }

    /// The path of the server's private key.
    #[must_use]
    pub fn server_key(&self) -> String {
        self.path("server-key.pem")
    }

    /// The path of the client's certificate.
    #[must_use]
    pub fn client_certificate(&self) -> String {
        self.path("client.pem")
    }

    /// The path of the client's private key.
    #[must_use]
    pub fn client_key(&self) -> String {
        self.path("client-key.pem")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}
