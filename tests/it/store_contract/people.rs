//! Access: users, sessions, failed logins, tokens, idempotency keys, and the audit.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::domain::permission::{Role, RoleGrant};
use order_relay::ports::audit::{Act, AuditFilter};
use order_relay::ports::people::{
    ApiToken, KeptAnswer, KeyClaim, OidcLogin, Provider, RequestKey, SessionRecord, Tried, User,
    UserChange, UserChanged,
};

use super::{Ledger, at};

on_every_ledger!(
    a_user_is_added_once_changed_and_gone,
    the_last_administrator_stays_one,
    two_administrators_who_end_each_other_at_once_leave_one,
    a_session_lasts_until_it_is_idle_too_long_or_over,
    a_session_ends_with_the_password_the_right_to_come_in_or_the_user,
    roles_count_at_once_and_those_of_a_provider_stay_with_the_session,
    failed_logins_have_to_wait_longer_and_longer,
    guesses_side_by_side_are_all_counted,
    a_login_elsewhere_is_finished_once,
    a_token_is_known_by_its_hash_until_it_ends,
    a_key_stands_for_one_request_of_one_person,
    the_audit_tells_who_from_where_and_only_of_shops_that_may_be_seen,
);

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);

fn act(actor: &str, now: Timestamp) -> Act {
    Act { actor: actor.to_owned(), reason: None, ..super::act("", now) }
}

fn viewer() -> Vec<RoleGrant> {
    vec![RoleGrant::everywhere(Role::Viewer)]
}

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        roles: viewer(),
        language: Some("de".to_owned()),
        created_at: at(0),
        password_changed_at: at(0),
        disabled_at: None,
    }
}

fn session(user: &str, provider: Provider) -> SessionRecord {
    SessionRecord {
        user: user.to_owned(),
        provider,
        roles: viewer(),
        language: None,
        created_at: at(0),
        expires_at: at(1_000),
        from: Some("192.0.2.1".to_owned()),
    }
}

async fn is_in(ledger: &Ledger, token: u8, now: Timestamp) -> bool {
    let found = ledger.store.session(&[token; 32], now, DAY, MINUTE).await;
    found.expect("the ledger answers").is_some()
}

async fn actions(ledger: &Ledger) -> Vec<String> {
    let rows = ledger.store.list_audit(&AuditFilter::default(), None, 100).await;
    let rows = rows.expect("the ledger answers").into_iter();
    rows.map(|row| format!("{} {}", row.entry.action, row.entry.target)).collect()
}

async fn a_user_is_added_once_changed_and_gone(ledger: &Ledger) {
    let store = &ledger.store;
    let add = async || store.add_user(&user("erika"), "$hash", &act("cli:root", at(1))).await;
    assert!(add().await.expect("the ledger answers"));
    assert!(!add().await.expect("the ledger answers"), "a name stands for one user");
    assert_eq!(store.user("erika").await.expect("the ledger answers"), Some(user("erika")));
    let hash = store.password_hash("erika").await.expect("the ledger answers");
    assert_eq!(hash.as_deref(), Some("$hash"));
    let roles = vec![RoleGrant { role: Role::Operator, shop: Some("de".to_owned()) }];
    for (n, change) in [
        UserChange::Roles(roles.clone()),
        UserChange::Language(None),
        UserChange::Password { hash: "$other".to_owned() },
        UserChange::Disable,
    ]
    .into_iter()
    .enumerate()
    {
        let by = act("user:admin", at(10 + i64::try_from(n).expect("few")));
        assert_eq!(changed_by(ledger, "erika", change, &by).await, UserChanged::Done);
    }
    let changed = store.list_users().await.expect("the ledger answers");
    let expected = User {
        roles,
        language: None,
        password_changed_at: at(12),
        disabled_at: Some(at(13)),
        ..user("erika")
    };
    assert_eq!(changed, [expected]);
    for change in [UserChange::Enable, UserChange::Remove] {
        let by = act("user:admin", at(20));
        assert_eq!(changed_by(ledger, "erika", change, &by).await, UserChanged::Done);
    }
    let gone = changed_by(ledger, "erika", UserChange::Enable, &act("user:admin", at(30))).await;
    assert_eq!(gone, UserChanged::Missing);
    assert!(store.list_users().await.expect("the ledger answers").is_empty());
    let mut done = actions(ledger).await;
    done.sort();
    let expected = ["add", "disable", "enable", "language", "password", "remove", "roles"];
    assert_eq!(done, expected.map(|what| format!("user.{what} user erika")));
}

async fn changed_by(ledger: &Ledger, name: &str, change: UserChange, by: &Act) -> UserChanged {
    ledger.store.change_user(name, change, by).await.expect("the ledger answers")
}

fn admin_in(shop: Option<&str>) -> Vec<RoleGrant> {
    vec![RoleGrant { role: Role::Admin, shop: shop.map(str::to_owned) }]
}

/// Everything that would make an administrator none.
fn ends() -> [UserChange; 4] {
    let lesser = [viewer(), admin_in(Some("de"))].map(UserChange::Roles);
    let [viewer, of_one_shop] = lesser;
    [viewer, of_one_shop, UserChange::Disable, UserChange::Remove]
}

async fn add(ledger: &Ledger, name: &str, roles: Vec<RoleGrant>) {
    let new = User { roles, ..user(name) };
    let added = ledger.store.add_user(&new, "$", &act("cli:root", at(0))).await;
    assert!(added.expect("the ledger answers"));
}

async fn the_last_administrator_stays_one(ledger: &Ledger) {
    add(ledger, "root", admin_in(None)).await;
    add(ledger, "off", admin_in(None)).await;
    add(ledger, "boss-of-one", admin_in(Some("de"))).await;
    let by = || act("user:root", at(1));
    assert_eq!(changed_by(ledger, "off", UserChange::Disable, &by()).await, UserChanged::Done);
    let before = ledger.store.list_users().await.expect("the ledger answers");
    let told = actions(ledger).await;
    for change in ends() {
        assert_eq!(changed_by(ledger, "root", change, &by()).await, UserChanged::LastAdministrator);
    }
    assert_eq!(ledger.store.list_users().await.expect("the ledger answers"), before);
    assert_eq!(actions(ledger).await, told, "what was not done is not told");
    for harmless in [
        UserChange::Roles([admin_in(None), viewer()].concat()),
        UserChange::Password { hash: "$other".to_owned() },
        UserChange::Language(None),
    ] {
        assert_eq!(changed_by(ledger, "root", harmless, &by()).await, UserChanged::Done);
    }
    for name in ["off", "boss-of-one"] {
        assert_eq!(changed_by(ledger, name, UserChange::Remove, &by()).await, UserChanged::Done);
    }
    add(ledger, "next", admin_in(None)).await;
    assert_eq!(changed_by(ledger, "root", UserChange::Remove, &by()).await, UserChanged::Done);
}

async fn two_administrators_who_end_each_other_at_once_leave_one(ledger: &Ledger) {
    let stores = [ledger.store.clone(), ledger.opened_again()];
    for name in ["erika", "kim"] {
        add(ledger, name, admin_in(None)).await;
    }
    for round in 0..20 {
        let (of_erika, of_kim) = (act("user:erika", at(1)), act("user:kim", at(1)));
        let (one, two) = tokio::join!(
            stores[0].change_user("kim", UserChange::Disable, &of_erika),
            stores[1].change_user("erika", UserChange::Disable, &of_kim),
        );
        let mut both = [one, two].map(|done| done.expect("the ledger answers"));
        both.sort_by_key(|done| *done == UserChanged::Done);
        assert_eq!(both, [UserChanged::LastAdministrator, UserChanged::Done], "{round}");
        for name in ["erika", "kim"] {
            let by = act("cli:root", at(2));
            assert_eq!(changed_by(ledger, name, UserChange::Enable, &by).await, UserChanged::Done);
        }
    }
}

async fn a_session_lasts_until_it_is_idle_too_long_or_over(ledger: &Ledger) {
    let store = &ledger.store;
    store.add_user(&user("erika"), "$", &act("cli:root", at(0))).await.expect("it is added");
    let began = session("erika", Provider::Local);
    store.begin_session(&began, &[1; 32], &act("user:erika", at(0))).await.expect("it begins");
    let find = async |token: u8, now, idle| {
        store.session(&[token; 32], now, idle, MINUTE).await.expect("the ledger answers")
    };
    let idle = Duration::from_secs(100);
    let found = find(1, at(99), idle).await.expect("it is there");
    assert_eq!(found, SessionRecord { language: Some("de".to_owned()), ..began.clone() });
    assert!(find(2, at(99), idle).await.is_none(), "another token");
    assert!(find(1, at(198), idle).await.is_some(), "it was seen at 99");
    assert!(find(1, at(298), idle).await.is_none(), "nobody was seen since 198");
    assert!(find(1, at(999), DAY).await.is_some());
    assert!(find(1, at(1_000), DAY).await.is_none(), "it is over, however busy");
    let again = act("user:erika", at(5));
    store.begin_session(&began, &[3; 32], &again).await.expect("it begins");
    let by = act("user:erika", at(5));
    assert!(store.end_session(&[3; 32], &by).await.expect("the ledger answers"));
    assert!(!store.end_session(&[3; 32], &by).await.expect("the ledger answers"));
    assert!(find(3, at(6), DAY).await.is_none(), "it was ended");
}

async fn a_session_ends_with_the_password_the_right_to_come_in_or_the_user(ledger: &Ledger) {
    let store = &ledger.store;
    for (n, change) in [
        UserChange::Password { hash: "$other".to_owned() },
        UserChange::Disable,
        UserChange::Remove,
    ]
    .into_iter()
    .enumerate()
    {
        let (name, n) = (format!("user{n}"), u8::try_from(n).expect("few"));
        let (own, others) = (n * 2, n * 2 + 1);
        store.add_user(&user(&name), "$", &act("cli:root", at(0))).await.expect("it is added");
        for (token, provider) in [(own, Provider::Local), (others, Provider::Oidc)] {
            let began = session(&name, provider);
            let by = act("user:x", at(0));
            store.begin_session(&began, &[token; 32], &by).await.expect("it begins");
        }
        assert!(is_in(ledger, own, at(1)).await);
        let by = act("cli:root", at(2));
        assert_eq!(changed_by(ledger, &name, change, &by).await, UserChanged::Done);
        assert!(!is_in(ledger, own, at(3)).await);
        assert!(
            is_in(ledger, others, at(3)).await,
            "somebody else who has the same name elsewhere"
        );
    }
}

async fn roles_count_at_once_and_those_of_a_provider_stay_with_the_session(ledger: &Ledger) {
    let store = &ledger.store;
    store.add_user(&user("erika"), "$", &act("cli:root", at(0))).await.expect("it is added");
    for (token, provider) in [(1, Provider::Local), (2, Provider::Oidc)] {
        let began = session("erika", provider);
        let by = act("user:erika", at(0));
        store.begin_session(&began, &[token; 32], &by).await.expect("it begins");
    }
    let admin = vec![RoleGrant::everywhere(Role::Admin)];
    let by = act("cli:root", at(1));
    let change = UserChange::Roles(admin.clone());
    assert_eq!(changed_by(ledger, "erika", change, &by).await, UserChanged::Done);
    let roles = async |token: u8| {
        let found = store.session(&[token; 32], at(2), DAY, MINUTE).await;
        found.expect("the ledger answers").expect("it is there").roles
    };
    assert_eq!(roles(1).await, admin);
    assert_eq!(roles(2).await, viewer());
}

fn tried(name: u8, free: u32) -> Tried {
    Tried { whose: [name; 32], free }
}

async fn failed_logins_have_to_wait_longer_and_longer(ledger: &Ledger) {
    let (store, whose) = (&ledger.store, [tried(1, 5), tried(9, 20)]);
    let try_at = async |seconds| {
        let until = store.login_begins(&whose, at(seconds)).await.expect("the ledger answers");
        until.map(|until| until.duration_since(at(0)).as_secs())
    };
    for second in 0..5 {
        assert_eq!(try_at(second).await, None);
    }
    assert_eq!(try_at(5).await, Some(9), "five failures: 5 s from the last one");
    assert_eq!(try_at(9).await, None);
    assert_eq!(try_at(10).await, Some(19), "10 s after the sixth");
    let other = [tried(2, 5), tried(9, 20)];
    let free = store.login_begins(&other, at(10)).await.expect("the ledger answers");
    assert_eq!(free, None, "another name from there");
    store.login_succeeded(&[2; 32], &[9; 32]).await.expect("the ledger answers");
    let again = store.login_begins(&[tried(1, 5)], at(19)).await.expect("the ledger answers");
    assert_eq!(again, None);
    store.login_succeeded(&[1; 32], &[9; 32]).await.expect("the ledger answers");
    for second in 20..24 {
        assert_eq!(try_at(second).await, None, "a right password begins at zero again");
    }
    // The address was counted all along, and a quarter of an hour is the longest.
    let mut now = 100;
    for n in 0..40u8 {
        let one = [tried(50 + n, 5), tried(9, 20)];
        if let Some(until) = store.login_begins(&one, at(now)).await.expect("the ledger answers") {
            let wait = until.duration_since(at(now)).as_secs();
            assert!((1..=900).contains(&wait), "{wait}");
            now += wait;
        }
    }
    assert!(now > 100, "an address has to wait too");
    let (name, later) = ([tried(1, 5)], at(now + 3_700));
    assert_eq!(store.login_begins(&name, later).await.expect("the ledger answers"), None);
}

async fn guesses_side_by_side_are_all_counted(ledger: &Ledger) {
    let stores = [ledger.store.clone(), ledger.opened_again()];
    let guesses = (0..30).map(|n| {
        let store = stores[n % 2].clone();
        async move { store.login_begins(&[tried(1, 5)], at(0)).await.expect("the ledger answers") }
    });
    let begun = join_all(guesses).await.into_iter().filter(Option::is_none).count();
    assert_eq!(begun, 5);
}

async fn a_login_elsewhere_is_finished_once(ledger: &Ledger) {
    let store = &ledger.store;
    let login = |seconds| OidcLogin {
        nonce: "n".to_owned(),
        verifier: "v".to_owned(),
        return_to: "/lost-orders".to_owned(),
        created_at: at(seconds),
    };
    store.begin_oidc_login(&[1; 32], &login(0)).await.expect("it begins");
    let take = async |state: u8| store.take_oidc_login(&[state; 32]).await.expect("an answer");
    assert!(take(1).await.is_some_and(|found| found == login(0)));
    assert!(take(1).await.is_none() && take(2).await.is_none());
    store.begin_oidc_login(&[3; 32], &login(0)).await.expect("it begins");
    store.begin_oidc_login(&[4; 32], &login(700)).await.expect("it begins");
    assert!(take(3).await.is_none(), "it took too long and is forgotten");
}

fn token(name: &str, expires_at: Option<Timestamp>) -> ApiToken {
    ApiToken {
        name: name.to_owned(),
        scopes: vec!["orders:read".to_owned(), "orders:publish".to_owned()],
        shops: None,
        created_at: at(0),
        expires_at,
        revoked_at: None,
    }
}

async fn a_token_is_known_by_its_hash_until_it_ends(ledger: &Ledger) {
    let store = &ledger.store;
    let by = |second| act("cli:root", at(second));
    let add = async |token: ApiToken, hash: u8| {
        store.add_token(&token, &[hash; 32], &by(0)).await.expect("the ledger answers")
    };
    let brief = ApiToken {
        shops: Some(vec!["de".to_owned(), "at".to_owned()]),
        ..token("brief", Some(at(10)))
    };
    assert!(add(token("lasting", None), 1).await && add(brief.clone(), 2).await);
    assert!(!add(token("brief", None), 3).await, "a name stands for one token");
    let of = async |hash: u8, now| store.token(&[hash; 32], now).await.expect("the ledger answers");
    assert_eq!(of(1, at(99)).await, Some(token("lasting", None)));
    assert_eq!(of(2, at(9)).await, Some(brief));
    assert_eq!((of(2, at(10)).await, of(3, at(0)).await), (None, None));
    let end = async |name, second| {
        store.revoke_token(name, &by(second)).await.expect("the ledger answers")
    };
    assert!(end("lasting", 20).await && !end("lasting", 21).await && !end("nobody", 21).await);
    assert_eq!(of(1, at(21)).await, None);
    let all = store.list_tokens().await.expect("the ledger answers");
    let ended: Vec<_> = all.iter().map(|t| (t.name.as_str(), t.revoked_at)).collect();
    assert_eq!(ended, [("brief", None), ("lasting", Some(at(20)))]);
    assert_eq!(
        actions(ledger).await.into_iter().filter(|row| row.starts_with("token.revoke")).count(),
        1
    );
}

async fn a_key_stands_for_one_request_of_one_person(ledger: &Ledger) {
    let store = &ledger.store;
    let key = |actor: &str, digest: u8| RequestKey {
        actor: actor.to_owned(),
        name: "k".to_owned(),
        digest: [digest; 32],
    };
    let claim = async |actor: &str, digest, second| {
        store.claim_key(&key(actor, digest), at(second)).await.expect("the ledger answers")
    };
    assert_eq!(claim("a", 1, 0).await, KeyClaim::New);
    assert_eq!(claim("b", 2, 0).await, KeyClaim::New, "somebody else's key");
    assert_eq!(claim("a", 1, 1).await, KeyClaim::Running);
    assert_eq!(claim("a", 2, 1).await, KeyClaim::Other);
    let answer = KeptAnswer {
        status: 201,
        headers: vec![("location".to_owned(), "/x".to_owned())],
        body: vec![0, 255],
    };
    store.settle_key(&key("a", 1), Some(&answer)).await.expect("the ledger answers");
    assert_eq!(claim("a", 1, 2).await, KeyClaim::Answered(answer));
    store.settle_key(&key("b", 2), None).await.expect("the ledger answers");
    assert_eq!(claim("b", 3, 2).await, KeyClaim::New, "it came to nothing, so the key is free");
    assert_eq!(claim("b", 3, 300).await, KeyClaim::Running);
    assert_eq!(claim("b", 3, 302).await, KeyClaim::New, "whoever claimed it has died");
    assert_eq!(claim("a", 2, 24 * 3_600).await, KeyClaim::New, "after a day it is forgotten");
}

async fn the_audit_tells_who_from_where_and_only_of_shops_that_may_be_seen(ledger: &Ledger) {
    let store = &ledger.store;
    ledger.parked("1", at(0)).await;
    let from = Some("192.0.2.7".to_owned());
    let by = Act { from: from.clone(), ..act("user:erika", at(10)) };
    let removed = store.remove_order(&super::key("1"), &by).await.expect("the ledger answers");
    removed.expect("a lost order can be removed");
    store.add_user(&user("kim"), "$", &act("user:admin", at(20))).await.expect("it is added");
    let list = async |filter: AuditFilter, after, limit| {
        store.list_audit(&filter, after, limit).await.expect("the ledger answers")
    };
    let all = list(AuditFilter::default(), None, 10).await;
    let told: Vec<_> = all.iter().map(|row| row.entry.action.as_str()).collect();
    assert_eq!(told, ["user.add", "order.remove"]);
    let entry = &all[1].entry;
    assert_eq!((entry.from.clone(), entry.target.as_str()), (from, "default/1"));
    assert_eq!(entry.after.as_deref(), Some("confirmed/removed"));
    let second = list(AuditFilter::default(), Some((all[0].entry.at, all[0].id)), 10).await;
    assert_eq!(second.len(), 1);
    let only = |shop: &str| AuditFilter {
        shops: ShopFilter::Only(vec![shop.to_owned()]),
        ..Default::default()
    };
    assert_eq!(list(only("default"), None, 10).await.len(), 1);
    assert_eq!(list(only("at"), None, 10).await.len(), 0);
    let text = |text: &str| Some(text.to_owned());
    for (filter, found) in [
        (AuditFilter { actor: text("user:erika"), ..Default::default() }, 1),
        (AuditFilter { action: text("user."), ..Default::default() }, 1),
        (AuditFilter { action: text("user"), ..Default::default() }, 0),
        (AuditFilter { target: text("user kim"), ..Default::default() }, 1),
        (AuditFilter { since: Some(at(11)), ..Default::default() }, 1),
        (AuditFilter { until: Some(at(20)), ..Default::default() }, 1),
    ] {
        assert_eq!(list(filter.clone(), None, 10).await.len(), found, "{filter:?}");
    }
}
