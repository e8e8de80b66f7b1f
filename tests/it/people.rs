//! Logins: passwords, sessions, cookies, forms of other sites, and who has to wait.

use std::process::Stdio;

use order_relay::ports::audit::AuditFilter;
use reqwest::header::{COOKIE, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use ring::hmac;
use tokio::io::AsyncWriteExt;

use crate::world::{Place, World};

const PASSWORD: &str = "correct horse battery";

/// A client that follows nothing by itself.
pub fn client() -> Client {
    Client::builder().redirect(redirect::Policy::none()).build().expect("a client")
}

/// A browser with a session.
pub struct Browser {
    client: Client,
    /// The value of its cookie.
    pub token: String,
}

impl Browser {
    /// A request with the session's cookie.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let cookie = format!("__Host-order_relay_session={}", self.token);
        self.client.request(method, url).header(COOKIE, cookie)
    }

    /// What each of its forms holds.
    pub fn csrf(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.token.as_bytes());
        let tag = hmac::sign(&key, b"form");
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Posts a form as a page of ours does.
    pub async fn post(&self, url: &str, fields: &[(&str, &str)]) -> Response {
        let csrf = self.csrf();
        let fields = [fields, &[("csrf", csrf.as_str())]].concat();
        let form = serde_html_form::to_string(&fields).expect("a form");
        let request = self.request(Method::POST, url).body(form);
        request.send().await.expect("the web port answers")
    }
}

/// Sends the login form.
pub async fn try_login(world: &World, name: &str, password: &str) -> Response {
    let fields = [("name", name), ("password", password), ("return_to", "/lost-orders")];
    let form = serde_html_form::to_string(fields).expect("a form");
    let request = client().post(world.web("/login")).body(form);
    request.send().await.expect("the web port answers")
}

/// Logs in; must succeed.
pub async fn log_in(world: &World, name: &str, password: &str) -> Browser {
    let response = try_login(world, name, password).await;
    assert_eq!(response.status().as_u16(), 303, "{name}");
    let cookie = response.headers()[SET_COOKIE].to_str().expect("text");
    let value = cookie.split(';').next().and_then(|pair| pair.split_once('='));
    let token = value.expect("a cookie").1.to_owned();
    Browser { client: client(), token }
}

/// Adds a user with a made password; that password.
pub async fn add_user(world: &World, name: &str, roles: &[&str]) -> String {
    let mut arguments = vec!["users", "add", name, "--generate"];
    for role in roles {
        arguments.extend(["--role", role]);
    }
    let out = world.ok(&arguments).await;
    out.lines().last().expect("the password").to_owned()
}

async fn with_input(world: &World, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = world.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

async fn is_in(world: &World, browser: &Browser) -> bool {
    let response = browser.request(Method::GET, &world.web("/api/v1/circuits")).send().await;
    match response.expect("the web port answers").status().as_u16() {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_user_logs_in_and_nothing_secret_is_kept_or_told() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let typed = ["users", "add", "Erika", "--role", "viewer", "--password-stdin"];
    let (done, told) = with_input(&world, &typed, &format!("{PASSWORD}\n")).await;
    assert!(done && told.contains("added erika: viewer"), "{told}");
    assert!(!told.contains(PASSWORD), "{told}");
    let response = try_login(&world, "erika", PASSWORD).await;
    assert_eq!(response.headers()[LOCATION], "/lost-orders");
    let cookie = response.headers()[SET_COOKIE].to_str().expect("text").to_owned();
    let (value, attributes) = cookie.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure");
    let token = value.strip_prefix("__Host-order_relay_session=").expect("our cookie").to_owned();
    assert_eq!(token.len(), 64);
    let browser = Browser { client: client(), token };
    assert!(is_in(&world, &browser).await);
    let store = world.store().await;
    let hash = store.password_hash("erika").await.expect("the ledger answers").expect("a hash");
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    let bytes = std::fs::read(world.folder.path().join("ledger.db")).expect("the ledger");
    let wal = std::fs::read(world.folder.path().join("ledger.db-wal")).unwrap_or_default();
    let log = world.processes[0].log();
    for secret in [PASSWORD, browser.token.as_str(), browser.csrf().as_str()] {
        let holds =
            |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!holds(&bytes) && !holds(&wal), "the ledger holds a secret");
        assert!(!log.contains(secret), "the log tells a secret");
    }
    let rows = store.list_audit(&AuditFilter::default(), None, 10).await.expect("an answer");
    let told: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {:?}", row.entry.actor, row.entry.action, row.entry.from))
        .collect();
    assert_eq!(told[0], "user:erika session.begin Some(\"127.0.0.1\")");
    assert!(told[1].starts_with("cli:") && told[1].ends_with("user.add None"), "{told:?}");
    world.leave().await;
}

#[tokio::test]
async fn a_session_ends_at_logout_with_the_password_and_with_the_user() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let password = add_user(&world, "erika", &["operator"]).await;
    let browser = log_in(&world, "erika", &password).await;
    let other = log_in(&world, "erika", &password).await;
    let left = browser.post(&world.web("/logout"), &[]).await;
    assert_eq!(
        (left.status().as_u16(), &left.headers()[LOCATION]),
        (303, &"/login".parse().unwrap())
    );
    let cookie = left.headers()[SET_COOKIE].to_str().expect("text");
    assert!(cookie.contains("Max-Age=0"), "{cookie}");
    assert!(!is_in(&world, &browser).await && is_in(&world, &other).await);

    let url = world.web("/password");
    let wrong = other.post(&url, &[("old", "not this one"), ("new", PASSWORD)]).await;
    let to = |response: &reqwest::Response| response.headers()[LOCATION].clone();
    assert_eq!((wrong.status().as_u16(), to(&wrong)), (303, "/me".parse().unwrap()));
    let short = other.post(&url, &[("old", &password), ("new", "short")]).await;
    assert_eq!((short.status().as_u16(), to(&short)), (303, "/me".parse().unwrap()));
    assert!(is_in(&world, &other).await);
    let changed = other.post(&url, &[("old", &password), ("new", PASSWORD)]).await;
    assert_eq!((changed.status().as_u16(), to(&changed)), (303, "/login".parse().unwrap()));
    assert!(!is_in(&world, &other).await, "every session of the user is over");
    assert_eq!(try_login(&world, "erika", &password).await.status().as_u16(), 401);

    let again = log_in(&world, "erika", PASSWORD).await;
    world.ok(&["users", "disable", "erika"]).await;
    assert!(!is_in(&world, &again).await);
    assert_eq!(try_login(&world, "erika", PASSWORD).await.status().as_u16(), 401);
    world.ok(&["users", "enable", "erika"]).await;
    let again = log_in(&world, "erika", PASSWORD).await;
    world.ok(&["users", "set-password", "erika", "--generate"]).await;
    assert!(!is_in(&world, &again).await);
    world.ok(&["users", "remove", "erika", "--yes"]).await;
    assert_eq!(try_login(&world, "erika", PASSWORD).await.status().as_u16(), 401);
    world.leave().await;
}

#[tokio::test]
async fn wrong_passwords_have_to_wait_also_after_a_restart_and_for_the_right_one() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let password = add_user(&world, "erika", &["viewer"]).await;
    for _ in 0..5 {
        let refused = try_login(&world, "erika", "wrong password").await;
        assert_eq!(refused.status().as_u16(), 401);
        let page = refused.text().await.expect("text");
        assert!(page.contains("the name or the password is wrong"), "{page}");
        assert!(!page.contains("wrong password\""), "what was typed is not shown again");
    }
    world.stop().await;
    world.serve().await;
    let refused = try_login(&world, "ERIKA", &password).await;
    assert_eq!(refused.status().as_u16(), 429);
    let wait: u64 = refused.headers()[RETRY_AFTER].to_str().unwrap().parse().expect("seconds");
    assert!((1..=5).contains(&wait), "{wait}");
    world
        .until("the wait is over", async || {
            match try_login(&world, "erika", &password).await.status().as_u16() {
                303 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    let again = try_login(&world, "erika", "wrong password").await;
    assert_eq!(again.status().as_u16(), 401, "a right password begins at zero again");
    world.leave().await;
}

#[tokio::test]
async fn a_form_of_another_site_is_refused_and_one_without_its_secret_too() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let password = add_user(&world, "erika", &["operator"]).await;
    let browser = log_in(&world, "erika", &password).await;
    let (url, csrf) = (world.web("/logout"), browser.csrf());
    let form = format!("csrf={csrf}");
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let request = browser.request(Method::POST, &url).header(name, value).body(form.clone());
        assert_eq!(request.send().await.expect("an answer").status().as_u16(), 403, "{value}");
        let request =
            client().post(world.web("/login")).header(name, value).body("name=a&password=b");
        assert_eq!(request.send().await.expect("an answer").status().as_u16(), 403, "{value}");
    }
    for body in ["", "csrf=", "csrf=00", &format!("csrf={}", csrf.to_uppercase())] {
        let request = browser.request(Method::POST, &url).body(body.to_owned());
        assert_eq!(request.send().await.expect("an answer").status().as_u16(), 403, "{body}");
    }
    let api = world.web("/api/v1/orders/default/1/transfer");
    let without = browser.request(Method::POST, &api).send().await.expect("an answer");
    assert_eq!(without.status().as_u16(), 403, "the API wants X-CSRF-Token of a browser");
    let with = browser.request(Method::POST, &api).header("x-csrf-token", &csrf);
    assert_eq!(with.send().await.expect("an answer").status().as_u16(), 404, "no such order");
    assert!(is_in(&world, &browser).await);
    let request = browser.request(Method::POST, &url).header(ORIGIN, "https://relay.example.com");
    assert_eq!(request.body(form).send().await.expect("an answer").status().as_u16(), 303);
    world.leave().await;
}

#[tokio::test]
async fn a_login_leads_to_the_page_that_was_wanted_and_never_elsewhere() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let password = add_user(&world, "erika", &["viewer"]).await;
    for (wanted, expected) in [
        ("/orders?search=%26", "/orders?search=%26"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
    ] {
        let fields = [("name", "erika"), ("password", password.as_str()), ("return_to", wanted)];
        let form = serde_html_form::to_string(fields).expect("a form");
        let response = client().post(world.web("/login")).body(form).send().await.expect("it");
        assert_eq!(response.headers()[LOCATION].to_str().expect("text"), expected);
    }
    world.leave().await;
}

#[tokio::test]
async fn the_last_administrator_can_be_ended_by_no_face() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let password = add_user(&world, "root", &["admin"]).await;
    add_user(&world, "kim", &["admin:de"]).await;
    let browser = log_in(&world, "root", &password).await;
    let told = "root is the last administrator; make another user administrator first";

    let get = browser.request(Method::GET, &world.web("/people")).send().await;
    let page = get.expect("the web port answers").text().await.expect("text");
    let barred = page.matches("The last administrator can neither").count();
    assert_eq!(barred, 3, "two buttons say why, and a sentence: {page}");
    assert!(page.contains("/people/users/kim/disable"), "others can be disabled");
    for (verb, field) in [("disable", ("role", "")), ("roles", ("role", "operator"))] {
        let url = world.web(&format!("/people/users/root/{verb}"));
        let page = browser.post(&url, &[field]).await.text().await.expect("text");
        assert!(page.contains(told), "{verb}: {page}");
    }

    let token = world.token("admin").await;
    let call = async |method: Method, path: &str, body: &str| {
        let request = client().request(method, world.web(path)).bearer_auth(&token);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.expect("the web port answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let lesser = r#"{"roles": [{"role": "admin", "shop": "de"}]}"#;
    for (method, path, body) in [
        (Method::POST, "/api/v1/users/root/disable", ""),
        (Method::PUT, "/api/v1/users/root/roles", lesser),
        (Method::DELETE, "/api/v1/users/root", ""),
    ] {
        let (status, problem) = call(method, path, body).await;
        assert_eq!(status, 409, "{path}: {problem}");
        assert!(problem.contains(told), "{path}: {problem}");
    }

    for command in [
        &["users", "disable", "root"][..],
        &["users", "set-roles", "root", "--role", "viewer"],
        &["users", "remove", "root", "--yes"],
    ] {
        let (done, said) = with_input(&world, command, "").await;
        assert!(!done && said.contains(told), "{command:?}: {said}");
    }
    assert!(is_in(&world, &browser).await, "and the session goes on");

    add_user(&world, "next", &["admin"]).await;
    let gone = call(Method::DELETE, "/api/v1/users/root", "").await;
    assert_eq!(gone.0, 200, "with another one there it may go: {}", gone.1);
    world.leave().await;
}
