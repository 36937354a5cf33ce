//! JSON Web Tokens (RFC 7519), signed with RS256 by a key that everybody knows: that of RFC 7515, A.2. Believes nothing else.

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

/// The key, PEM.
pub(super) const KEY: &str = include_str!("../../../agent/config/testdata/rfc7515-a2.pem");

/// A token whose signature is good.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) head: Value,
    pub(super) claims: Value,
}

fn key() -> Result<RsaKeyPair> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).context("no PEM")?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der());
    key.ok().context("no RSA key")
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with these claims; `id` names the key.
pub fn sign(id: &str, claims: &Value) -> Result<String> {
    let head = json!({"alg": "RS256", "typ": "JWT", "kid": id});
    let unsigned = format!(
        "{}.{}",
        encode(head.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let key = key()?;
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    let signed = key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        unsigned.as_bytes(),
        &mut signature,
    );
    signed.ok().context("failed to sign")?;
    Ok(format!("{unsigned}.{}", encode(&signature)))
}

/// The key's public half as a set of JSON Web Keys (RFC 7517).
pub(super) fn public_keys(id: &str) -> Result<Value> {
    let public: PublicKeyComponents<Vec<u8>> = key()?.public().into();
    Ok(
        json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
        "n": encode(&public.n), "e": encode(&public.e)}]}),
    )
}

/// What is in a token, if the key has signed it.
pub(super) fn read(token: &str) -> Option<Token> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    let key = key().ok()?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    public.verify(signed.as_bytes(), &decode(signature)?).ok()?;
    let token = Token {
        head: serde_json::from_slice(&decode(head)?).ok()?,
        claims: serde_json::from_slice(&decode(claims)?).ok()?,
    };
    (token.head["alg"] == "RS256").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_has_signed_is_read() {
        let token = sign("1", &json!({"iss": "me"})).unwrap();
        let read = super::read(&token).unwrap();
        assert_eq!(
            (&read.head["kid"], &read.claims["iss"]),
            (&json!("1"), &json!("me"))
        );
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert!(super::read(&format!("{signed}a.{signature}")).is_none());
        assert!(super::read("a.b").is_none());
        let keys = public_keys("1").unwrap();
        assert_eq!(keys["keys"][0]["e"], "AQAB");
    }
}
