//! OAuth 2 with refresh tokens that change with each use (`grant = "refresh_token"`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::adapters::erp::recipe::open::{Overrides, TokenStore, load};
use order_relay::app::store::Store;
use order_relay::domain::failure::ErrorClass;
use order_relay::ports::clock::SystemClock;
use order_relay::ports::erp::Erp;
use secrecy::SecretString;
use serde_json::json;

use crate::stand_in::{Asked, Books, Says, StandIn};
use crate::store_contract::Ledger;
use crate::world::Place;

use super::{engine, limits, order};

const AUTH: &str = r#"
[secret]
client_id     = { env = "UNSET_CLIENT_ID" }
client_secret = { env = "UNSET_CLIENT_SECRET" }
refresh_token = { env = "UNSET_REFRESH_TOKEN" }
[auth]
kind      = "oauth2"
grant     = "refresh_token"
token_url = "{{ const.login }}/token"
[const]
login = "http://unset.example"
"#;

/// Each refresh token can be used once; one that is used again ends all of them.
fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    if asked.path() != "/token" {
        if !asked.header("authorization").starts_with("Bearer access-") {
            return (Says::json(401, &json!({"error": "who are you?"})), false);
        }
        return engine::erp(books, asked);
    }
    let newest = format!("refresh_token=refresh-{}", books.logins);
    if books.session_over || !asked.body.split('&').any(|field| field == newest) {
        books.session_over = true;
        return (Says::json(400, &json!({"error": "invalid_grant"})), false);
    }
    books.logins += 1;
    let answer = json!({
        "access_token": format!("access-{}", books.logins), "expires_in": 3600,
        "refresh_token": format!("refresh-{}", books.logins),
    });
    (Says::json(200, &answer), false)
}

struct Shop {
    ledger: Ledger,
    stand_in: StandIn,
    path: String,
    _folder: tempfile::TempDir,
}

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

impl Shop {
    async fn open() -> Self {
        order_relay::app::commands::install_tls();
        let recipe = engine::RECIPE.replacen("[commit]", &format!("{AUTH}[commit]"), 1);
        let (folder, path) = engine::file(&recipe);
        let ledger = Ledger::open(Place::Embedded).await;
        Self { ledger, stand_in: StandIn::start(erp).await, path, _folder: folder }
    }

    fn overrides(&self, store: &Arc<dyn Store>, token: &str, key: Option<String>) -> Overrides {
        let secrets = [("client_id", "id"), ("client_secret", "s3cret"), ("refresh_token", token)];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), SecretString::from(value)));
        Overrides {
            url: Some(self.stand_in.url.clone()),
            consts: [("login".to_owned(), self.stand_in.url.clone())].into(),
            secrets: secrets.into_iter().collect(),
            keeps: true,
            token_store: Some(TokenStore {
                tokens: store.clone(),
                erp: "default".to_owned(),
                key: key.map(SecretString::from),
            }),
            ..Overrides::default()
        }
    }

    /// The ERP as a process opens it.
    fn process(&self, token: &str, key: &str) -> RecipeErp {
        let overrides = self.overrides(&self.ledger.store, token, Some(key.to_owned()));
        let opened = load(&self.path).unwrap_or_else(|faults| panic!("{faults}"));
        let opened = opened.open(&overrides, limits(), Arc::new(SystemClock));
        opened.unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn logins(&self) -> u32 {
        self.stand_in.books.lock().unwrap().logins
    }
}

#[tokio::test]
async fn the_newest_token_is_kept_and_used_after_a_restart() {
    let shop = Shop::open().await;
    shop.process("refresh-0", &key(1)).submit(&order("O-1", "A")).await.unwrap();
    shop.process("refresh-0", &key(1)).submit(&order("O-2", "A")).await.unwrap();
    assert_eq!(shop.logins(), 2, "the token of the settings was used once, then the kept one");
    shop.ledger.end().await;
}

#[tokio::test]
async fn processes_that_renew_at_once_use_no_token_twice() {
    let shop = Shop::open().await;
    let processes: Vec<RecipeErp> = (0..6).map(|_| shop.process("refresh-0", &key(1))).collect();
    let numbered = processes.iter().enumerate();
    let submits = numbered.map(|(n, process)| async move {
        process.submit(&order(&format!("O-{n}"), "A")).await.unwrap();
    });
    futures_util::future::join_all(submits).await;
    assert_eq!(shop.logins(), 6);
    assert!(!shop.stand_in.books.lock().unwrap().session_over, "a token was used twice");
    shop.ledger.end().await;
}

#[tokio::test]
async fn a_token_is_nowhere_in_the_database_as_text() {
    let shop = Shop::open().await;
    let erp = shop.process("refresh-0", &key(1));
    erp.submit(&order("O-1", "A")).await.unwrap();
    let store = shop.ledger.opened_again();
    let kept = "SELECT sealed || origin FROM refresh_tokens";
    let pool = sqlx::SqlitePool::connect(&shop.ledger.database().url).await.unwrap();
    let text: String = sqlx::query_scalar(kept).fetch_one(&pool).await.unwrap();
    pool.close().await;
    drop(store);
    assert!(!text.contains("refresh-") && !text.contains("access-"), "{text}");
    shop.ledger.end().await;
}

#[tokio::test]
async fn another_key_and_a_token_that_has_ended_are_told_with_the_fix() {
    let shop = Shop::open().await;
    shop.process("refresh-0", &key(1)).submit(&order("O-1", "A")).await.unwrap();
    let refused = shop.process("refresh-0", &key(2)).submit(&order("O-2", "A")).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.class), ("token_key", ErrorClass::Unauthorized));
    assert!(refused.message.contains("erp.token_key"), "{refused:?}");
    // A new token in the settings counts, also with another key.
    let refused = shop.process("refresh-9", &key(2)).submit(&order("O-2", "A")).await.unwrap_err();
    assert!(refused.message.contains("set erp.secret.refresh_token"), "{refused:?}");
    {
        let mut books = shop.stand_in.books.lock().unwrap();
        books.session_over = false;
        books.logins = 30;
    }
    shop.process("refresh-30", &key(2)).submit(&order("O-2", "A")).await.unwrap();
    shop.process("refresh-30", &key(2)).submit(&order("O-3", "A")).await.unwrap();
    assert_eq!(shop.logins(), 32);
    shop.ledger.end().await;
}

#[tokio::test]
async fn without_a_key_or_with_a_wrong_one_nothing_is_opened() {
    let shop = Shop::open().await;
    for (key, told) in [(None, "erp.token_key: missing"), (Some("short"), "32 random bytes")] {
        let key = key.map(str::to_owned);
        let overrides = shop.overrides(&shop.ledger.store, "refresh-0", key);
        let opened = load(&shop.path).unwrap_or_else(|faults| panic!("{faults}"));
        let refused = opened.open(&overrides, limits(), Arc::new(SystemClock)).err().unwrap();
        assert!(refused.to_string().contains(told), "{refused}");
    }
    shop.ledger.end().await;
}
