//! The generic webhook: JSON of ours or of a template, signed as Standard Webhooks says (standardwebhooks.com).
//!
//! Headers `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,<base64 HMAC-SHA256 of "id.timestamp.body">`; a secret
//! `whsec_…` is base64, any other is taken as it is. Its rule: the id is the delivery's and stays the same at each attempt. The
//! way not taken: a signature of our own, for which every receiver would have to write code.

use super::{ChannelError, Parts, send};
use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

#[derive(Debug)]
pub(super) struct Webhook {
    http: reqwest::Client,
    url: SecretString,
    key: Option<SecretSlice<u8>>,
    authorization: Option<SecretString>,
    template: Option<String>,
}

impl Webhook {
    pub fn new(parts: &Parts<'_>) -> Result<Self, ChannelError> {
        let secret = parts.secret(parts.channel.secret_env.as_ref(), parts.channel.secrets.secret.as_ref())?;
        let key = secret.map(|secret| {
            key(secret.expose_secret()).ok_or_else(|| ChannelError::Secret {
                channel: parts.name.to_owned(),
                variable: parts.channel.secret_env.clone().unwrap_or_default(),
            })
        });
        Ok(Self {
            http: parts.http.clone(),
            url: parts.address("")?,
            key: key.transpose()?,
            authorization: parts.authorization()?,
            template: parts.channel.template.clone(),
        })
    }

    fn body(&self, notice: &Notice) -> Result<String, String> {
        let json = notice.json();
        let Some(template) = &self.template else { return Ok(json.to_string()) };
        // The error's detail may quote values, so only its kind and place are told.
        let body = minijinja::Environment::new().render_str(template, minijinja::value::Serde(&json)).map_err(|e| {
            let line = e.line().map_or_else(String::new, |line| format!(" in line {line}"));
            format!("the template cannot be rendered: {}{line}", e.kind())
        })?;
        // It did with a sample at start.
        match serde_json::from_str::<serde::de::IgnoredAny>(&body) {
            Ok(_) => Ok(body),
            Err(e) => Err(format!("the template gives no JSON (line {}); write texts with |tojson", e.line())),
        }
    }
}

impl Channel for Webhook {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        Box::pin(async move {
            let body = match self.body(notice) {
                Ok(body) => body,
                Err(reason) => return Delivery::Dead { reason },
            };
            let (id, seconds) = (notice.id.to_string(), notice.at.timestamp());
            let mut request = self
                .http
                .post(self.url.expose_secret())
                .header("content-type", "application/json")
                .header("webhook-id", &id)
                .header("webhook-timestamp", seconds);
            if let Some(key) = &self.key {
                request = request.header("webhook-signature", signature(key.expose_secret(), &id, seconds, &body));
            }
            if let Some(authorization) = &self.authorization {
                request = request.header("authorization", authorization.expose_secret());
            }
            send(request.body(body), "the webhook").await
        })
    }
}

/// The key in a secret: base64 after `whsec_`, else the text itself.
fn key(secret: &str) -> Option<SecretSlice<u8>> {
    let bytes = match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).ok()?,
        None => secret.as_bytes().to_vec(),
    };
    Some(bytes.into())
}

fn signature(key: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks and of its reference libraries' tests.
    #[test]
    fn the_signature_is_that_of_the_reference() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let made =
            signature(key.expose_secret(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_without_the_prefix_are_taken_as_they_are() {
        assert_eq!(key("plain").expect("any text").expose_secret(), b"plain");
        assert!(key("whsec_not base64!").is_none());
    }
}
