//! The refresh token of an ERP: one holder at a time, and the newest one stays.

use order_relay::ports::refresh_tokens::{KeptToken, LeasedToken, TokenLease};

use super::{Ledger, at};

on_every_ledger!(
    one_holder_at_a_time_uses_a_token_until_it_keeps_a_new_one,
    the_right_of_a_dead_holder_ends_and_it_keeps_nothing_any_more,
    each_erp_has_its_own,
);

fn lease(erp: &str, holder: &str, now: i64) -> TokenLease {
    let (erp, holder) = (erp.to_owned(), holder.to_owned());
    TokenLease { erp, holder, now: at(now), until: at(now + 60) }
}

fn token(sealed: &str) -> KeptToken {
    KeptToken { sealed: sealed.to_owned(), origin: "origin".to_owned() }
}

async fn take(ledger: &Ledger, lease: &TokenLease) -> LeasedToken {
    ledger.store.lease_refresh_token(lease).await.expect("the ledger answers")
}

async fn keep(ledger: &Ledger, lease: &TokenLease, sealed: &str) -> bool {
    let kept = ledger.store.keep_refresh_token(lease, &token(sealed)).await;
    kept.expect("the ledger answers")
}

async fn one_holder_at_a_time_uses_a_token_until_it_keeps_a_new_one(ledger: &Ledger) {
    let (a, b) = (lease("default", "a", 0), lease("default", "b", 1));
    assert_eq!(take(ledger, &a).await, LeasedToken::Nothing);
    assert_eq!(take(ledger, &b).await, LeasedToken::Busy);
    assert!(!keep(ledger, &b, "stolen").await, "only the holder keeps one");
    assert!(keep(ledger, &a, "first").await);
    assert_eq!(take(ledger, &b).await, LeasedToken::Kept(token("first")));
    ledger.store.release_refresh_token(&a).await.expect("the ledger answers");
    assert_eq!(take(ledger, &a).await, LeasedToken::Busy, "another's right is not given back");
    ledger.store.release_refresh_token(&b).await.expect("the ledger answers");
    assert_eq!(take(ledger, &a).await, LeasedToken::Kept(token("first")));
}

async fn the_right_of_a_dead_holder_ends_and_it_keeps_nothing_any_more(ledger: &Ledger) {
    let (dead, next) = (lease("default", "dead", 0), lease("default", "next", 60));
    assert_eq!(take(ledger, &dead).await, LeasedToken::Nothing);
    assert_eq!(take(ledger, &lease("default", "next", 59)).await, LeasedToken::Busy);
    assert_eq!(take(ledger, &next).await, LeasedToken::Nothing);
    assert!(!keep(ledger, &dead, "late").await);
    assert!(keep(ledger, &next, "newest").await);
    assert_eq!(take(ledger, &dead).await, LeasedToken::Kept(token("newest")));
}

async fn each_erp_has_its_own(ledger: &Ledger) {
    let (de, at) = (lease("default", "a", 0), lease("at", "b", 0));
    assert_eq!(take(ledger, &de).await, LeasedToken::Nothing);
    assert_eq!(take(ledger, &at).await, LeasedToken::Nothing);
    assert!(keep(ledger, &at, "of at").await && keep(ledger, &de, "of de").await);
    assert_eq!(take(ledger, &de).await, LeasedToken::Kept(token("of de")));
}
