//! Section `server`: where we listen, and who may come in.
//!
//! Its rule: without tokens only the loopback may be listened on, so that nobody exposes prompts by accident. The way not
//! taken: a default token, which everybody would leave in place.

use super::{Ambient, ConfigError, at_least_one};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// OTLP's own port for gRPC.
const GRPC_PORT: u16 = 4317;

/// Shorter tokens can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// Section `server`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address of OTLP/HTTP, the API and the operations endpoints; gRPC is spoken here too.
    pub listen: SocketAddr,
    /// Address of OTLP/gRPC.
    pub grpc_listen: GrpcListen,
    /// Connections of one address at the same time at most; more wait to be accepted.
    pub connections_max: usize,
    /// Largest request body, before and after decompression, in bytes.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive, in milliseconds.
    pub body_ms_max: u64,
    /// Who may come in; none = only the loopback may be listened on.
    pub tokens: Vec<Token>,
    /// Certificate and key; none = no TLS.
    pub tls: Option<TlsFiles>,
    /// After SIGTERM, how long work in hand may go on before it is cancelled, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4318)),
            grpc_listen: GrpcListen::Auto,
            connections_max: 10_000,
            body_bytes_max: 64 * 1024 * 1024,
            body_ms_max: 60_000,
            tokens: Vec::new(),
            tls: None,
            drain_ms: 30_000,
        }
    }
}

/// Where OTLP/gRPC is listened for: `auto`, `off`, or an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GrpcListen {
    /// Port 4317 beside `listen`, unless somebody else has it.
    #[default]
    Auto,
    /// No address of its own.
    Off,
    /// This address; it is an error when it cannot be had.
    At(SocketAddr),
}

impl TryFrom<String> for GrpcListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            other => other.parse().map(Self::At).map_err(|_| {
                "server.grpc_listen must be \"auto\", \"off\" or an address such as 127.0.0.1:4317".to_owned()
            }),
        }
    }
}

impl From<GrpcListen> for String {
    fn from(listen: GrpcListen) -> Self {
        match listen {
            GrpcListen::Auto => "auto".to_owned(),
            GrpcListen::Off => "off".to_owned(),
            GrpcListen::At(address) => address.to_string(),
        }
    }
}

/// The files of a certificate, as a ConfigMap, cert-manager or an ACME client writes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate with its intermediates, in PEM.
    pub cert_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
    /// How often the files are looked at, in milliseconds.
    #[serde(default = "reload_ms")]
    pub reload_ms: u64,
}

fn reload_ms() -> u64 {
    10_000
}

/// What a token's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send traces.
    Ingest,
    /// Read verdicts and traces.
    Read,
    /// Give labels.
    Label,
    /// Everything.
    Admin,
}

/// A bearer token: its value comes from an environment variable, never from the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who it is for, as shown in logs.
    pub name: String,
    /// Environment variable that holds it.
    pub token_env: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
}

impl Token {
    fn invalid(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::invalid(format!("server.tokens[{}]", self.name), problem)
    }

    /// The token itself, without the white space that files of secrets end with.
    fn secret(&self, ambient: &Ambient) -> Result<SecretString, ConfigError> {
        let Some(value) = ambient.get(&self.token_env) else {
            let problem = format!("environment variable {} is not set; set it or remove the token", self.token_env);
            return Err(self.invalid(problem));
        };
        let value = value.trim();
        if !value.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = format!(
                "the value of {} has white space or characters that no header can hold; use letters and digits",
                self.token_env
            );
            return Err(self.invalid(problem));
        }
        Ok(value.to_owned().into())
    }
}

impl Server {
    /// Where this machine reaches the service, as in `http://127.0.0.1:4318`.
    #[must_use]
    pub fn local_url(&self) -> String {
        let mut address = self.listen;
        if address.ip().is_unspecified() {
            let loopback =
                |is_v4: bool| -> IpAddr { if is_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() } };
            address.set_ip(loopback(address.is_ipv4()));
        }
        format!("{}://{address}", if self.tls.is_some() { "https" } else { "http" })
    }

    /// The address of gRPC, if it has one of its own.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        match self.grpc_listen {
            GrpcListen::Auto => Some(SocketAddr::new(self.listen.ip(), GRPC_PORT)).filter(|a| *a != self.listen),
            GrpcListen::Off => None,
            GrpcListen::At(address) => Some(address),
        }
    }

    /// The tokens with their values.
    ///
    /// # Errors
    /// When a variable is not set, holds what cannot be sent, or the value of another token.
    pub fn secrets(&self, ambient: &Ambient) -> Result<Vec<(SecretString, &Token)>, ConfigError> {
        let mut seen: BTreeMap<String, &Token> = BTreeMap::new();
        let mut secrets = Vec::new();
        for token in &self.tokens {
            let secret = token.secret(ambient)?;
            if let Some(other) = seen.insert(secret.expose_secret().to_owned(), token) {
                let problem = format!("has the same value as the token {:?}; give each its own", other.name);
                return Err(token.invalid(problem));
            }
            secrets.push((secret, token));
        }
        Ok(secrets)
    }

    /// Names of tokens that are short enough to be guessed.
    #[must_use]
    pub fn weak_tokens(&self, ambient: &Ambient) -> Vec<&str> {
        let weak = |token: &&Token| ambient.get(&token.token_env).is_some_and(|v| v.trim().len() < TOKEN_CHARS_MIN);
        self.tokens.iter().filter(weak).map(|token| token.name.as_str()).collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("server.body_bytes_max", self.body_bytes_max as u64)?;
        at_least_one("server.body_ms_max", self.body_ms_max)?;
        at_least_one("server.connections_max", self.connections_max as u64)?;
        self.check_addresses()?;
        self.check_tokens()?;
        let Some(tls) = &self.tls else { return Ok(()) };
        at_least_one("server.tls.reload_ms", tls.reload_ms)?;
        for (key, file) in [("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
            if file.as_os_str().is_empty() {
                return Err(ConfigError::invalid(format!("server.tls.{key}"), "must name a file in PEM"));
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let both = [("server.listen", Some(self.listen)), ("server.grpc_listen", self.grpc_address())];
        for (key, address) in both.into_iter().filter_map(|(key, address)| Some((key, address?))) {
            if self.tokens.is_empty() && !address.ip().is_loopback() {
                let problem = format!(
                    "{address} can be reached from other machines but no token is configured; add [[server.tokens]] or listen on 127.0.0.1"
                );
                return Err(ConfigError::invalid(key, problem));
            }
        }
        if self.grpc_address() == Some(self.listen) && self.listen.port() != 0 {
            let problem = "is server.listen, where gRPC is spoken anyway; use another port or \"off\"";
            return Err(ConfigError::invalid("server.grpc_listen", problem));
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), ConfigError> {
        for (n, token) in self.tokens.iter().enumerate() {
            if token.name.trim().is_empty() || token.token_env.trim().is_empty() {
                let problem = format!("token {} needs a `name` and a `token_env`, the variable that holds it", n + 1);
                return Err(ConfigError::invalid("server.tokens", problem));
            }
            if token.scopes.is_empty() {
                return Err(token.invalid("allows nothing; add a scope: ingest, read, label or admin"));
            }
            if self.tokens[..n].iter().any(|other| other.name == token.name) {
                return Err(token.invalid("there are two tokens of this name; give each its own"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, scopes: &[Scope]) -> Token {
        Token { name: name.to_owned(), token_env: name.to_uppercase(), scopes: scopes.to_vec() }
    }

    fn with(tokens: Vec<Token>) -> Server {
        Server { tokens, ..Server::default() }
    }

    fn problem<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> String {
        result.expect_err("it makes no sense").to_string()
    }

    #[test]
    fn tokens_are_told_apart_and_allow_something() {
        let two = with(vec![token("a", &[Scope::Read]), token("a", &[Scope::Read])]);
        assert!(problem(two.check()).contains("server.tokens[a]: there are two"));
        assert!(problem(with(vec![token("a", &[])]).check()).contains("add a scope"));
        assert!(problem(with(vec![token("", &[Scope::Read])]).check()).contains("token 1 needs"));
    }

    #[test]
    fn values_of_tokens_are_checked_where_they_come_from() {
        let server = with(vec![token("a", &[Scope::Read]), token("b", &[Scope::Ingest])]);
        let secrets = |a: &str, b: &str| server.secrets(&Ambient::of(&[("A", a), ("B", b)])).map(|s| s.len());
        assert_eq!(secrets("one", "two").expect("they differ"), 2);
        let same = problem(secrets("one", "one\n"));
        assert!(same.contains("server.tokens[b]") && same.contains("\"a\"") && !same.contains("one\n"), "{same}");
        assert!(problem(secrets("one", "t w o")).contains("the value of B"));
        assert!(problem(server.secrets(&Ambient::of(&[("A", "one")])).map(|_| ())).contains("B is not set"));
        let ambient = Ambient::of(&[("A", "a-long-one-0123456789"), ("B", "short")]);
        assert_eq!(server.weak_tokens(&ambient), ["b"]);
    }

    #[test]
    fn grpc_has_its_port_beside_http_or_another_or_none() {
        let at = |listen: &str, grpc: &str| {
            let grpc_listen = GrpcListen::try_from(grpc.to_owned()).expect("it is valid");
            Server { listen: listen.parse().expect("it is an address"), grpc_listen, ..Server::default() }
        };
        let text = |server: Server| server.grpc_address().map(|a| a.to_string());
        assert_eq!(text(at("127.0.0.1:4318", "auto")).as_deref(), Some("127.0.0.1:4317"));
        assert_eq!(text(at("127.0.0.1:4317", "auto")), None);
        assert_eq!(text(at("127.0.0.1:4318", "off")), None);
        assert_eq!(text(at("127.0.0.1:4318", "[::1]:9")).as_deref(), Some("[::1]:9"));
        assert!(GrpcListen::try_from("4317".to_owned()).is_err());
        assert!(problem(at("127.0.0.1:9", "127.0.0.1:9").check()).contains("server.grpc_listen"));
        assert!(problem(at("127.0.0.1:9", "0.0.0.0:4317").check()).contains("server.grpc_listen: 0.0.0.0:4317"));
    }

    #[test]
    fn tls_needs_both_files() {
        let half: Result<Server, _> = toml::from_str("[tls]\ncert_file = \"c.pem\"\n");
        assert!(half.expect_err("the key is missing").to_string().contains("key_file"));
        let server: Server = toml::from_str("[tls]\ncert_file = \"c.pem\"\nkey_file = \"\"\n").expect("it parses");
        assert!(problem(server.check()).contains("server.tls.key_file"));
    }
}
