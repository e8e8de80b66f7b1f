//! Signed assertions for OAuth 2 (RFC 7523): a JWT with RS256, PS256 or ES256 over ring.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value as Json, json};

use super::model::JwtAlg;

/// A private key, ready to sign.
pub enum SigningKey {
    Rsa(Box<RsaKeyPair>, JwtAlg),
    /// P-256.
    Ecdsa(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// Reads a PEM file's text (PKCS#8; PKCS#1 for RSA as well).
    pub fn from_pem(alg: JwtAlg, pem: &[u8]) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|error| format!("no private key in PEM form: {error}"))?;
        let wrong = |error: ring::error::KeyRejected| format!("the key cannot be used: {error}");
        match (alg, &der) {
            (JwtAlg::Es256, PrivateKeyDer::Pkcs8(der)) => {
                let (random, der) = (SystemRandom::new(), der.secret_pkcs8_der());
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
                Ok(Self::Ecdsa(Box::new(pair.map_err(wrong)?)))
            }
            (JwtAlg::Es256, _) => Err("expected a P-256 key in PKCS#8 form".to_owned()),
            (alg, PrivateKeyDer::Pkcs8(der)) => {
                let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(wrong)?;
                Ok(Self::Rsa(Box::new(pair), alg))
            }
            (alg, PrivateKeyDer::Pkcs1(der)) => {
                let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(wrong)?;
                Ok(Self::Rsa(Box::new(pair), alg))
            }
            _ => Err("expected an RSA key in PKCS#8 form".to_owned()),
        }
    }

    /// A token of these claims.
    pub fn sign(&self, kid: Option<&str>, claims: &Map<String, Json>) -> Result<String, String> {
        let alg = match self {
            Self::Ecdsa(_) => "ES256",
            Self::Rsa(_, JwtAlg::Ps256) => "PS256",
            Self::Rsa(..) => "RS256",
        };
        let mut header = json!({"alg": alg, "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = Json::from(kid);
        }
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let claims = Json::Object(claims.clone()).to_string();
        let message = format!("{}.{}", part(&header.to_string()), part(&claims));
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "signing failed".to_owned();
        match self {
            Self::Ecdsa(pair) => {
                pair.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(failed)
            }
            Self::Rsa(pair, alg) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match alg {
                    JwtAlg::Ps256 => pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature),
                }
                .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
        UnparsedPublicKey,
    };

    use super::*;

    #[test]
    fn an_es256_token_verifies_with_its_public_key() {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let body = STANDARD.encode(pkcs8.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = SigningKey::from_pem(JwtAlg::Es256, pem.as_bytes()).unwrap();
        let claims = json!({"iss": "client", "exp": 1});
        let token = key.sign(Some("k1"), claims.as_object().unwrap()).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let SigningKey::Ecdsa(pair) = &key else { panic!("not ECDSA") };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
            .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        let header = URL_SAFE_NO_PAD.decode(message.split_once('.').unwrap().0).unwrap();
        assert_eq!(
            serde_json::from_slice::<Json>(&header).unwrap(),
            json!({"alg": "ES256", "typ": "JWT", "kid": "k1"})
        );
    }

    /// A key that was made for this test and opens nothing.
    const RSA: &[u8] = include_bytes!("../../../../tests/keys/rsa-for-tests-only.pem");

    #[test]
    fn rs256_and_ps256_tokens_verify_with_their_public_key() {
        for (alg, name, rule) in [
            (JwtAlg::Rs256, "RS256", &RSA_PKCS1_2048_8192_SHA256),
            (JwtAlg::Ps256, "PS256", &RSA_PSS_2048_8192_SHA256),
        ] {
            let key = SigningKey::from_pem(alg, RSA).unwrap();
            let token = key.sign(None, json!({"iss": "client"}).as_object().unwrap()).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let SigningKey::Rsa(pair, _) = &key else { panic!("not RSA") };
            UnparsedPublicKey::new(rule, pair.public_key().as_ref())
                .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
                .unwrap();
            let header = URL_SAFE_NO_PAD.decode(message.split_once('.').unwrap().0).unwrap();
            let header = serde_json::from_slice::<Json>(&header).unwrap();
            assert_eq!(header, json!({"alg": name, "typ": "JWT"}));
        }
    }

    #[test]
    fn a_key_that_does_not_fit_says_so() {
        assert!(SigningKey::from_pem(JwtAlg::Ps256, b"nothing").is_err());
    }
}
