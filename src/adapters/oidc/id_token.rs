//! Verifying an ID token (OpenID Connect Core 1.0, 3.1.3.7) over ring: signature, issuer, audience,
//! time and nonce. `none` and symmetric algorithms are not supported, so that they cannot be
//! chosen.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::ports::identity::Claims;

/// How far clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// What a token must say.
pub struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// For whom.
    pub audience: &'a str,
    /// For which login.
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// Keys of a provider (RFC 7517).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Keys {
    keys: Vec<Key>,
}

#[derive(Debug, Clone, Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// The verdict about a token.
pub enum Verdict {
    /// It is valid; these are its claims.
    Good(Claims),
    /// It is not valid, with the reason; continues after "its ID token".
    Bad(String),
    /// No key matches: there may be a new one.
    UnknownKey,
}

/// Verifies a token.
pub fn verify(token: &str, keys: &Keys, expected: &Expected<'_>) -> Verdict {
    let bad = |why: &str| Verdict::Bad(why.to_owned());
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { return bad("is no signed token") };
    let Some(about) = decode::<Header>(header) else { return bad("has no readable header") };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return bad("is incomplete") };
    let Some(kind) = kind(&about.alg) else {
        return bad("is signed in a way that is not accepted");
    };
    let mut fitting = keys.keys.iter().filter(|key| {
        let is_named = about.kid.is_none() || key.kid == about.kid;
        is_named && key.kty == kind && key.purpose.as_deref().is_none_or(|p| p == "sig")
    });
    let signed = &token.as_bytes()[..header.len() + 1 + claims.len()];
    let Some(first) = fitting.next() else { return Verdict::UnknownKey };
    let mut all = std::iter::once(first).chain(fitting);
    if !all.any(|key| key.fits(&about.alg, signed, &signature)) {
        return bad("has a wrong signature");
    }
    let Some(claims) = decode::<Claims>(claims) else { return bad("has no readable claims") };
    match check(&claims, expected) {
        Ok(()) => Verdict::Good(claims),
        Err(why) => bad(why),
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn kind(alg: &str) -> Option<&'static str> {
    Some(match alg {
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => "RSA",
        "ES256" | "ES384" => "EC",
        "EdDSA" => "OKP",
        _ => return None,
    })
}

impl Key {
    fn fits(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        let part = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?).ok();
        let curve = self.crv.as_deref().unwrap_or_default();
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
        };
        let point = || {
            let (x, y) = (part(&self.x)?, part(&self.y)?);
            Some([&[4], x.as_slice(), y.as_slice()].concat())
        };
        match (alg, curve) {
            ("ES256", "P-256") => point().is_some_and(|key| by(&ECDSA_P256_SHA256_FIXED, key)),
            ("ES384", "P-384") => point().is_some_and(|key| by(&ECDSA_P384_SHA384_FIXED, key)),
            ("EdDSA", "Ed25519") => part(&self.x).is_some_and(|key| by(&ED25519, key)),
            _ => match (rsa(alg), part(&self.n), part(&self.e)) {
                (Some(parameters), Some(n), Some(e)) => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
                }
                _ => false,
            },
        }
    }
}

fn rsa(alg: &str) -> Option<&'static RsaParameters> {
    Some(match alg {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), &'static str> {
    let text = |name: &str| claims.get(name).and_then(Json::as_str);
    let time = |name: &str| {
        let seconds = claims.get(name)?;
        seconds.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok())
    };
    if text("iss") != Some(expected.issuer) {
        return Err("is of another issuer");
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    let party = text("azp");
    let is_ours = party.map_or(audiences.len() == 1, |party| party == expected.audience);
    if !audiences.contains(&expected.audience) || !is_ours {
        return Err("is for another client");
    }
    if time("exp").is_none_or(|end| expected.now.duration_since(end) >= LEEWAY) {
        return Err("has expired");
    }
    if time("nbf").is_some_and(|begin| begin.duration_since(expected.now) > LEEWAY) {
        return Err("is not valid yet");
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("belongs to another login");
    }
    if text("sub").is_none_or(str::is_empty) {
        return Err("names no user");
    }
    Ok(())
}
