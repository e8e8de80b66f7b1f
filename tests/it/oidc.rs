//! Logging in at an identity provider: a stub that speaks real HTTP, and everything that must be refused.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use order_relay::ports::clock::{Clock, SystemClock};
use reqwest::Url;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::people::client;
use crate::world::{Place, World};

const RSA: &[u8] = include_bytes!("../keys/rsa-for-tests-only.pem");

/// What the stub says next.
struct Says {
    kid: &'static str,
    alg: &'static str,
    changes: Value,
    broken: bool,
    nonce: String,
    challenge: String,
    keys_read: u32,
}

#[derive(Clone)]
struct Stub {
    issuer: String,
    key: Arc<RsaKeyPair>,
    says: Arc<Mutex<Says>>,
}

impl Stub {
    async fn start(tasks: &mut JoinSet<()>) -> Self {
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA).expect("a key");
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("a bound port");
        let says = Says {
            kid: "k1",
            alg: "RS256",
            changes: json!({}),
            broken: false,
            nonce: String::new(),
            challenge: String::new(),
            keys_read: 0,
        };
        let stub = Self {
            issuer: format!("http://{address}/realms/shop"),
            key: Arc::new(key),
            says: Arc::new(Mutex::new(says)),
        };
        let router = Router::new()
            .route("/realms/shop/.well-known/openid-configuration", get(discovery))
            .route("/realms/shop/keys", get(keys))
            .route("/realms/shop/token", post(token))
            .with_state(stub.clone());
        tasks.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        stub
    }

    fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().expect("nobody panicked"));
    }

    fn id_token(&self, says: &Says) -> String {
        let now = SystemClock.now().as_second();
        let mut claims = json!({
            "iss": self.issuer, "aud": "order-relay", "sub": "0815", "iat": now, "exp": now + 300,
            "nonce": says.nonce, "preferred_username": "kim",
            "realm_access": {"roles": ["shop-operators", "offline_access"]},
        });
        for (name, value) in says.changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = json!({"alg": says.alg, "kid": says.kid, "typ": "JWT"});
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("it is signed");
        if says.broken {
            signature[20] ^= 1;
        }
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn json_of(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

async fn discovery(State(stub): State<Stub>) -> Response {
    let at = |path: &str| format!("{}/{path}", stub.issuer);
    json_of(&json!({
        "issuer": stub.issuer, "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"), "jwks_uri": at("keys"),
    }))
}

async fn keys(State(stub): State<Stub>) -> Response {
    let mut says = stub.says.lock().expect("nobody panicked");
    says.keys_read += 1;
    // The new key is published from the second look on, as after a rotation.
    let kid = if says.keys_read > 1 { says.kid } else { "k1" };
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(stub.key.public());
    let [n, e] = [public.n, public.e].map(|part| URL_SAFE_NO_PAD.encode(part));
    json_of(&json!({"keys": [
        {"kty": "RSA", "use": "sig", "kid": kid, "alg": "RS256", "n": n, "e": e},
        {"kty": "oct", "kid": "hs", "k": "c2VjcmV0"},
    ]}))
}

async fn token(State(stub): State<Stub>, headers: HeaderMap, body: String) -> Response {
    let form: std::collections::BTreeMap<String, String> =
        serde_html_form::from_str(&body).expect("a form");
    let says = stub.says.lock().expect("nobody panicked");
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    let is_us = headers["authorization"] == "Basic b3JkZXIlMkRyZWxheTpzJTNBY3JldA==";
    let is_right = form["grant_type"] == "authorization_code"
        && form["code"] == "the-code"
        && form["redirect_uri"] == "https://relay.example.com/login/oidc/callback"
        && challenge == says.challenge;
    if !is_us || !is_right {
        let refused = json!({"error": "invalid_grant"}).to_string();
        return (StatusCode::BAD_REQUEST, refused).into_response();
    }
    json_of(&json!({"access_token": "x", "token_type": "Bearer", "id_token": stub.id_token(&says)}))
}

/// The browser's way up to the provider: the state, and the cookie that binds it.
async fn begin(world: &World, stub: &Stub, wanted: &str) -> (String, String) {
    let url = world.web(&format!("/login/oidc?return_to={wanted}"));
    let begun = client().get(url).send().await.expect("the web port answers");
    assert_eq!(begun.status().as_u16(), 303);
    let cookie = begun.headers()[SET_COOKIE].to_str().expect("text").to_owned();
    let address = Url::parse(begun.headers()[LOCATION].to_str().expect("text")).expect("a URL");
    assert!(address.as_str().starts_with(&format!("{}/authorize?", stub.issuer)), "{address}");
    let part = |name: &str| {
        let found = address.query_pairs().find(|(key, _)| key == name);
        found.unwrap_or_else(|| panic!("no {name} in {address}")).1.into_owned()
    };
    assert_eq!(
        (part("response_type"), part("code_challenge_method")),
        ("code".into(), "S256".into())
    );
    assert_eq!(
        (part("client_id"), part("scope")),
        ("order-relay".into(), "openid profile email".into())
    );
    stub.says(|says| {
        says.nonce = part("nonce");
        says.challenge = part("code_challenge");
    });
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    (part("state"), cookie)
}

async fn come_back(world: &World, state: &str, cookie: &str, code: &str) -> ProbeAnswer {
    let url = world.web(&format!("/login/oidc/callback?state={state}&code={code}"));
    let request = client().get(url).header(COOKIE, cookie);
    request.send().await.expect("the web port answers")
}

type ProbeAnswer = reqwest::Response;

async fn world_with_provider() -> (World, Stub, JoinSet<()>) {
    let mut tasks = JoinSet::new();
    let stub = Stub::start(&mut tasks).await;
    let mut world = World::new(Place::Embedded).await;
    let issuer = stub.issuer.clone();
    for (key, value) in [
        ("auth.oidc.issuer", issuer.as_str()),
        ("auth.oidc.client_id", "order-relay"),
        ("auth.oidc.client_secret", "s:cret"),
        ("auth.oidc.role_claim", "realm_access.roles"),
        ("auth.oidc.roles", "shop-operators=operator:de, shop-viewers=viewer"),
    ] {
        world.set(key, value);
    }
    world.serve().await;
    (world, stub, tasks)
}

#[tokio::test]
async fn whoever_the_provider_knows_and_gives_a_role_comes_in() {
    let (world, stub, _tasks) = world_with_provider().await;
    let (state, cookie) = begin(&world, &stub, "/orders%3Fshop%3Dde").await;
    let back = come_back(&world, &state, &cookie, "the-code").await;
    assert_eq!(
        (back.status().as_u16(), &back.headers()[LOCATION]),
        (303, &"/orders?shop=de".parse().unwrap())
    );
    let session = back.headers().get_all(SET_COOKIE).iter().next().expect("a cookie");
    let session = session.to_str().expect("text").split(';').next().expect("a pair").to_owned();
    let get = async |path: &str| {
        let request = client().get(world.web(path)).header(COOKIE, &session);
        let answer = request.send().await.expect("the web port answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(get("/api/v1/orders?shop=de").await.0, 200);
    assert_eq!(get("/api/v1/ledger").await.0, 403, "operator of one shop only");
    let again = come_back(&world, &state, &cookie, "the-code").await;
    assert_eq!(again.status().as_u16(), 403, "a login is finished once");
    assert!(!world.processes[0].log().contains("the-code"), "the code is not logged");

    // The provider changes its key: it is looked up once more.
    stub.says(|says| says.kid = "k2");
    let (state, cookie) = begin(&world, &stub, "/").await;
    let back = come_back(&world, &state, &cookie, "the-code").await;
    assert_eq!(back.status().as_u16(), 303);
    assert_eq!(stub.says.lock().expect("nobody panicked").keys_read, 2);
    world.leave().await;
}

#[tokio::test]
async fn what_does_not_hold_lets_nobody_in() {
    let (world, stub, _tasks) = world_with_provider().await;
    let refused = async |what: &str, change: &dyn Fn(&mut Says), expected: &str| {
        let (state, cookie) = begin(&world, &stub, "/").await;
        stub.says(change);
        let back = come_back(&world, &state, &cookie, "the-code").await;
        let (status, cookies) = (back.status().as_u16(), format!("{:?}", back.headers()));
        let page = back.text().await.expect("text");
        assert_eq!(status, 403, "{what}: {page}");
        assert!(page.contains(expected), "{what}: {page}");
        assert!(!cookies.contains("order_relay_session"), "{what}: {cookies}");
        stub.says(|says| {
            says.changes = json!({});
            (says.alg, says.kid, says.broken) = ("RS256", "k1", false);
        });
    };
    let past = SystemClock.now().as_second() - 120;
    for (what, changes, expected) in [
        ("another issuer", json!({"iss": "https://evil.example"}), "another issuer"),
        ("another audience", json!({"aud": "shop"}), "another client"),
        ("another party", json!({"aud": ["order-relay", "x"], "azp": "x"}), "another client"),
        ("many audiences", json!({"aud": ["order-relay", "x"]}), "another client"),
        ("expired", json!({"exp": past}), "expired"),
        ("no end", json!({"exp": null}), "expired"),
        ("not yet", json!({"nbf": past + 1_000}), "not valid yet"),
        ("another login", json!({"nonce": "x"}), "another login"),
        ("nobody", json!({"sub": ""}), "names no user"),
        ("no role", json!({"realm_access": {"roles": ["x"]}}), "kim has no role here"),
        ("roles elsewhere", json!({"realm_access": null, "roles": ["admin"]}), "no role here"),
    ] {
        refused(what, &|says| says.changes = changes.clone(), expected).await;
    }
    refused("a wrong signature", &|says| says.broken = true, "wrong signature").await;
    refused("no signature", &|says| says.alg = "none", "not accepted").await;
    refused("a symmetric one", &|says| says.alg = "HS256", "not accepted").await;
    refused("another kind of key", &|says| says.alg = "ES256", "unknown key").await;

    let (state, cookie) = begin(&world, &stub, "/").await;
    for (state, cookie) in [(state.as_str(), ""), ("x", cookie.as_str()), (&state, "a=b")] {
        let back = come_back(&world, state, cookie, "the-code").await;
        assert_eq!(back.status().as_u16(), 403, "another browser");
    }
    assert_eq!(come_back(&world, &state, &cookie, "x").await.status().as_u16(), 403);
    world.leave().await;
}
