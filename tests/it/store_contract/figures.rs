//! Counters follow every order to the last digit, groups outlive their orders, and a list that is
//! read page by page shows each order once, in whatever order it is sorted.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::domain::fingerprint::fingerprint;
use order_relay::domain::lifecycle::transitions::FailedAttempt;
use order_relay::domain::lifecycle::vocabulary::{OrderState, Trigger};
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::order_filter::{Mark, OrderFilter, ShopFilter, Sort, SortBy};
use order_relay::ports::audit::AuditFilter;
use order_relay::ports::failure_groups::Group;
use order_relay::ports::orders::FailureRequest;
use order_relay::ports::store_error::StoreError;
use order_relay::ports::workers::Worker;
use serde_json::json;

use super::{Ledger, act, at, failed, failure, key, placed};
use crate::world::{order, order_with};

on_every_ledger!(
    counters_follow_an_order_through_its_life,
    a_failure_that_brings_its_order_is_counted,
    money_is_exact_and_totals_that_are_not_summed_are_told,
    counters_are_told_by_shop,
    folding_changes_no_figure_however_often_and_by_whomever,
    figures_hold_while_workers_write_and_others_fold,
    what_happened_is_told_by_time,
    old_buckets_become_wider_and_keep_their_sums,
    groups_tell_what_failed_and_where,
    a_note_outlives_the_orders_of_its_group,
    whoever_sees_one_shop_learns_nothing_of_another,
    every_sort_visits_each_order_once,
    new_filters_find_what_they_name,
    a_count_equals_the_list,
    an_article_is_found_whole_or_not_at_all,
    workers_are_alive_while_they_are_seen,
    documents_come_back_as_they_came;
    only in SQL:
    an_order_that_vanished_is_still_counted,
    folding_leaves_one_row_for_each_place,
);

fn all() -> ShopFilter {
    ShopFilter::default()
}

fn only(shop: &str) -> ShopFilter {
    ShopFilter::Only(vec![shop.to_owned()])
}

/// `phase currency amount (orders, unsummed)`, line by line.
async fn standing(ledger: &Ledger, shops: &ShopFilter) -> Vec<String> {
    let tally = ledger.store.tally(shops).await.expect("the ledger answers");
    let mut lines = Vec::new();
    for s in &tally.standing {
        assert_eq!(s.orders, s.money.iter().map(|m| m.orders).sum::<u64>());
        for m in &s.money {
            let unsummed = if m.unsummed > 0 { format!(" ?{}", m.unsummed) } else { String::new() };
            lines.push(format!("{} {} {} {}{unsummed}", s.phase, m.orders, m.amount, m.currency));
        }
    }
    lines
}

async fn holds(ledger: &Ledger) {
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    assert!(report.violations.is_empty(), "{report:?}");
    let tally = ledger.store.tally(&all()).await.expect("the ledger answers");
    assert_eq!(tally.received, tally.standing.iter().map(|s| s.orders).sum::<u64>());
}

/// A failure that parks, with a message of its own.
fn refused(id: &str, attempt: u32, message: &str, seconds: i64) -> FailureRequest {
    let refusal = Failure::new(ErrorClass::Rejected, "http_422", message, Stage::After);
    let failed = FailedAttempt { failure: refusal, ..failed(attempt, at(seconds)) };
    FailureRequest { failed, ..failure(id, attempt, at(seconds)) }
}

async fn accept(ledger: &Ledger, document: &str, seconds: i64) {
    ledger.store.accept(placed(document), at(seconds)).await.expect("the ledger answers");
}

async fn counters_follow_an_order_through_its_life(ledger: &Ledger) {
    accept(ledger, &order("1"), 0).await;
    accept(ledger, &order("2"), 1).await;
    accept(ledger, &order("2"), 2).await;
    assert_eq!(standing(ledger, &all()).await, ["queued 2 259.80 EUR"]);
    ledger.admit("1", "w", at(3)).await;
    ledger.fail(failure("1", 1, at(4))).await;
    ledger.fail(failure("1", 1, at(5))).await;
    assert_eq!(standing(ledger, &all()).await, ["queued 1 129.90 EUR", "retrying 1 129.90 EUR"]);
    ledger.fail(refused("1", 2, "no such article", 41)).await;
    assert_eq!(standing(ledger, &all()).await, ["queued 1 129.90 EUR", "parked 1 129.90 EUR"]);
    holds(ledger).await;
    ledger.store.remove_order(&key("1"), &act("x", at(50))).await.expect("answers").expect("may");
    assert_eq!(standing(ledger, &all()).await, ["queued 1 129.90 EUR", "removed 1 129.90 EUR"]);
    ledger.store.restore_order(&key("1"), &act("x", at(60))).await.expect("answers").expect("may");
    assert_eq!(standing(ledger, &all()).await, ["queued 1 129.90 EUR", "parked 1 129.90 EUR"]);
    ledger.confirm("1", 3, "ERP-1", at(70)).await;
    ledger.confirm("1", 3, "ERP-1", at(71)).await;
    assert_eq!(standing(ledger, &all()).await, ["queued 1 129.90 EUR", "transferred 1 129.90 EUR"]);
    holds(ledger).await;
    let open = ledger.store.count_open().await.expect("the ledger answers");
    assert_eq!(open.len(), 1);
    assert_eq!(
        (open[0].phase.as_str(), open[0].orders, open[0].oldest),
        ("queued", 1, Some(at(1)))
    );
}

async fn a_failure_that_brings_its_order_is_counted(ledger: &Ledger) {
    let brought = FailureRequest { order: Some(placed(&order("1"))), ..failure("1", 1, at(1)) };
    ledger.fail(brought).await;
    assert_eq!(standing(ledger, &all()).await, ["retrying 1 129.90 EUR"]);
    holds(ledger).await;
}

async fn an_order_that_vanished_is_still_counted(ledger: &Ledger) {
    accept(ledger, &order("1"), 0).await;
    ledger.parked("2", at(1)).await;
    assert_eq!(ledger.tamper("DELETE FROM orders WHERE order_id = '2'").await, 1);
    assert_eq!(standing(ledger, &all()).await, ["queued 1 129.90 EUR", "parked 1 129.90 EUR"]);
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    assert_eq!((report.difference, report.violations.len()), (1, 1), "{report:?}");
}

async fn money_is_exact_and_totals_that_are_not_summed_are_told(ledger: &Ledger) {
    let totals = [
        ("0.1", "EUR"),
        ("0.2", "EUR"),
        ("999999999999.999999999", "EUR"),
        ("999999999999.999999999", "EUR"),
        ("0.000000002", "EUR"),
        ("1000000000000", "USD"),
        ("0.0000000001", "USD"),
        ("-5", "USD"),
        ("1e3", "USD"),
        ("7", "USD"),
        ("1200", "JPY"),
    ];
    for (n, (total, currency)) in totals.into_iter().enumerate() {
        let document = order_with(&n.to_string(), &json!({"total": total, "currency": currency}));
        accept(ledger, &document, 0).await;
    }
    let expected = ["queued 5 2000000000000.30 EUR", "queued 1 1200 JPY", "queued 5 7.00 USD ?4"];
    assert_eq!(standing(ledger, &all()).await, expected);
    ledger.store.fold_statistics(at(1)).await.expect("the ledger answers");
    assert_eq!(standing(ledger, &all()).await, expected);
    ledger.confirm("7", 1, "ERP-7", at(2)).await;
    ledger.confirm("2", 1, "ERP-2", at(2)).await;
    assert_eq!(
        standing(ledger, &all()).await,
        [
            "queued 4 1000000000000.300000001 EUR",
            "queued 1 1200 JPY",
            "queued 4 7.00 USD ?3",
            "transferred 1 999999999999.999999999 EUR",
            "transferred 1 0.00 USD ?1",
        ]
    );
    holds(ledger).await;
}

async fn counters_are_told_by_shop(ledger: &Ledger) {
    accept(ledger, &order_with("1", &json!({"shop": "de"})), 5).await;
    accept(ledger, &order_with("1", &json!({"shop": "at", "total": "1"})), 0).await;
    assert_eq!(standing(ledger, &only("de")).await, ["queued 1 129.90 EUR"]);
    let tally = ledger.store.tally(&only("de")).await.expect("the ledger answers");
    assert_eq!((tally.received, tally.standing[0].oldest), (1, Some(at(5))));
    let except = ShopFilter::Except(vec!["de".to_owned()]);
    assert_eq!(standing(ledger, &except).await, ["queued 1 1.00 EUR"]);
    assert!(standing(ledger, &ShopFilter::Only(Vec::new())).await.is_empty());
}

/// Ten orders of every fate that needs no clock.
async fn some_orders(ledger: &Ledger) {
    for n in 0..10 {
        let id = n.to_string();
        accept(ledger, &order(&id), n).await;
        match n % 3 {
            0 => drop(ledger.confirm(&id, 1, &format!("ERP-{n}"), at(n + 20)).await),
            1 => drop(ledger.fail(refused(&id, 1, "no such article", n + 20)).await),
            _ => {}
        }
    }
}

async fn folding_changes_no_figure_however_often_and_by_whomever(ledger: &Ledger) {
    some_orders(ledger).await;
    let flow = async || ledger.store.flow(&all(), at(-60), Duration::from_mins(1)).await;
    let before = (standing(ledger, &all()).await, flow().await.expect("answers"));
    let others = [ledger.opened_again(), ledger.opened_again(), ledger.opened_again()];
    for _ in 0..3 {
        for folded in join_all(others.iter().map(|store| store.fold_statistics(at(60)))).await {
            folded.expect("nobody is in anybody's way");
        }
        assert_eq!((standing(ledger, &all()).await, flow().await.expect("answers")), before);
        holds(ledger).await;
    }
}

async fn folding_leaves_one_row_for_each_place(ledger: &Ledger) {
    some_orders(ledger).await;
    let before = standing(ledger, &all()).await;
    for _ in 0..150 {
        ledger
            .store
            .remove_order(&key("2"), &act("x", at(70)))
            .await
            .expect("answers")
            .expect("may");
        ledger
            .store
            .restore_order(&key("2"), &act("x", at(70)))
            .await
            .expect("answers")
            .expect("may");
    }
    ledger.store.fold_statistics(at(80)).await.expect("the ledger answers");
    assert_eq!(standing(ledger, &all()).await, before);
    let rows = ledger.tamper("UPDATE added_counts SET orders = orders").await;
    assert_eq!(rows, 3, "one row for each place, none for what is empty");
}

async fn figures_hold_while_workers_write_and_others_fold(ledger: &Ledger) {
    let (one, two) = (ledger.opened_again(), ledger.opened_again());
    let writes = async {
        for round in 0..12 {
            let ids: Vec<String> = (0..20).map(|n| format!("{round}-{n}")).collect();
            let accepts = ids.iter().map(|id| one.accept(placed(&order(id)), at(round)));
            join_all(accepts).await;
            let fails = ids.iter().step_by(2).map(|id| {
                two.record_failure(refused(id, 1, &format!("kind {}", &id[..1]), round + 1))
            });
            join_all(fails).await;
        }
    };
    let folds = async {
        for _ in 0..40 {
            match ledger.store.fold_statistics(at(30)).await {
                Ok(()) | Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let tally = ledger.store.tally(&all()).await.expect("the ledger answers");
            let sum = tally.standing.iter().map(|s| s.orders).sum::<u64>();
            assert_eq!(tally.received, sum, "the sum is of one moment");
        }
    };
    tokio::join!(writes, folds);
    assert_eq!(
        standing(ledger, &all()).await,
        ["queued 120 15588.00 EUR", "parked 120 15588.00 EUR"]
    );
    holds(ledger).await;
}

async fn flow(ledger: &Ledger, minutes: u64) -> Vec<(i64, u64, u64, u64)> {
    let width = Duration::from_mins(minutes);
    let flow = ledger.store.flow(&all(), at(-86_400), width).await.expect("the ledger answers");
    let seconds =
        |flow: &order_relay::ports::statistics::Flow| flow.at.duration_since(at(0)).as_secs();
    flow.iter().map(|f| (seconds(f), f.received, f.confirmed, f.failed)).collect()
}

async fn what_happened_is_told_by_time(ledger: &Ledger) {
    accept(ledger, &order("1"), 0).await;
    accept(ledger, &order("2"), 59).await;
    accept(ledger, &order("2"), 60).await;
    ledger.admit("1", "w", at(60)).await;
    ledger.fail(failure("1", 1, at(61))).await;
    ledger.fail(failure("1", 1, at(200))).await;
    ledger.again("1", 2, Trigger::Retry, at(120)).await;
    ledger.fail(failure("1", 2, at(121))).await;
    ledger.confirm("1", 3, "ERP-1", at(179)).await;
    ledger.confirm("1", 3, "ERP-1", at(500)).await;
    assert_eq!(flow(ledger, 1).await, [(0, 2, 0, 0), (60, 0, 0, 1), (120, 0, 1, 1)]);
    assert_eq!(flow(ledger, 60).await, [(0, 2, 1, 2)]);
    let none = ledger.store.flow(&only("at"), at(0), Duration::from_mins(1)).await;
    assert!(none.expect("the ledger answers").is_empty());
}

async fn old_buckets_become_wider_and_keep_their_sums(ledger: &Ledger) {
    const DAY: i64 = 86_400;
    for n in 0..6 {
        accept(ledger, &order(&n.to_string()), n * 600).await;
    }
    accept(ledger, &order("late"), 3 * DAY).await;
    let fold = async |seconds| ledger.store.fold_statistics(at(seconds)).await.expect("answers");
    fold(DAY).await;
    assert_eq!(flow(ledger, 1).await.len(), 7, "young buckets stay");
    fold(3 * DAY).await;
    fold(3 * DAY).await;
    assert_eq!(flow(ledger, 1).await, [(0, 6, 0, 0), (3 * DAY, 1, 0, 0)]);
    fold(70 * DAY).await;
    let days = flow(ledger, 1440).await;
    assert_eq!(days.iter().map(|day| day.1).sum::<u64>(), 7);
    assert_eq!(flow(ledger, 1).await, days, "nothing is finer than a day any more");
}

async fn groups(ledger: &Ledger, shops: &ShopFilter, now: i64) -> Vec<Group> {
    ledger.store.failure_groups(shops, None, at(now)).await.expect("the ledger answers")
}

async fn group(ledger: &Ledger, shops: &ShopFilter, name: &str, now: i64) -> Option<Group> {
    let found = ledger.store.failure_groups(shops, Some(name), at(now)).await;
    found.expect("the ledger answers").pop()
}

async fn groups_tell_what_failed_and_where(ledger: &Ledger) {
    const HOUR: i64 = 3_600;
    for (n, (shop, message)) in [
        ("de", "article 'A-1' unknown"),
        ("at", "article 'B-22' unknown"),
        ("de", "article 'C-3' unknown"),
        ("de", "no such customer"),
    ]
    .into_iter()
    .enumerate()
    {
        let seconds = i64::try_from(n).expect("small") * HOUR;
        accept(ledger, &order_with(&n.to_string(), &json!({"shop": shop})), seconds).await;
        ledger.fail(refused(&format!("{shop}/{n}"), 1, message, seconds)).await;
    }
    let told = groups(ledger, &all(), 3 * HOUR + 1).await;
    let counts: Vec<_> = told.iter().map(|g| (g.orders, g.shops.join("+"), g.is_new)).collect();
    assert_eq!(counts, [(3, "at+de".to_owned(), true), (1, "de".to_owned(), true)]);
    let first = &told[0];
    assert_eq!((first.class.as_str(), first.code.as_str()), ("rejected", "http_422"));
    assert_eq!(first.message, "article 'A-1' unknown");
    assert_eq!((first.first_seen, first.last_seen), (at(0), at(2 * HOUR)));
    assert_eq!(first.money[0].amount, "389.70");
    assert_eq!(first.failures.len(), 24);
    assert_eq!(first.failures[20..], [1, 1, 1, 0]);
    let later = groups(ledger, &all(), 30 * HOUR).await;
    assert!(later.iter().all(|group| !group.is_new));
    assert_eq!(later[0].failures.iter().sum::<u64>(), 0, "a day is over");
    assert_eq!(later[0].last_seen, at(2 * HOUR));
    // One of them fails differently at its next attempt, another is done.
    ledger.fail(refused("de/0", 2, "no such customer", 31 * HOUR)).await;
    ledger
        .store
        .remove_order(&key("at/1"), &act("x", at(31 * HOUR)))
        .await
        .expect("answers")
        .expect("may");
    let counts: Vec<_> = groups(ledger, &all(), 32 * HOUR).await.iter().map(|g| g.orders).collect();
    assert_eq!(counts, [2, 1]);
}

async fn a_note_outlives_the_orders_of_its_group(ledger: &Ledger) {
    ledger.parked("1", at(0)).await;
    let name = groups(ledger, &all(), 1).await.remove(0).fingerprint;
    let (note, runbook) = (Some("ask Kim"), Some("https://wiki.example/1"));
    let noted = ledger.store.note_group(&name, note, runbook, &act("x", at(5))).await;
    assert!(noted.expect("the ledger answers"));
    ledger.confirm("1", 2, "ERP-1", at(6)).await;
    assert!(groups(ledger, &all(), 7).await.is_empty(), "nothing is lost any more");
    let alone = group(ledger, &all(), &name, 7).await.expect("it is still known");
    assert_eq!((alone.orders, alone.note.as_deref()), (0, note));
    ledger.parked("2", at(10)).await;
    let again = groups(ledger, &all(), 11).await.remove(0);
    assert_eq!((again.note.as_deref(), again.runbook.as_deref()), (note, runbook));
    assert_eq!((again.noted_by.as_deref(), again.noted_at), (Some("test"), Some(at(5))));
    assert_eq!((again.first_seen, again.last_seen), (at(0), at(10)));
    let away = ledger.store.note_group(&name, None, None, &act("x", at(12))).await;
    assert!(away.expect("the ledger answers"));
    let bare = groups(ledger, &all(), 13).await.remove(0);
    assert_eq!((bare.note, bare.runbook), (None, None));
    let unknown = ledger.store.note_group("0000", note, None, &act("x", at(12))).await;
    assert!(!unknown.expect("the ledger answers"));
    let notes = AuditFilter { action: Some("group.note".to_owned()), ..AuditFilter::default() };
    let rows = ledger.store.list_audit(&notes, None, 10).await.expect("the ledger answers");
    assert_eq!(rows.len(), 2, "each change leaves its trace");
}

async fn whoever_sees_one_shop_learns_nothing_of_another(ledger: &Ledger) {
    for (shop, id, message) in [
        ("de", "1", "article 'secret' unknown"),
        ("at", "2", "article 'ours' unknown"),
        ("de", "3", "only in de"),
    ] {
        accept(ledger, &order_with(id, &json!({"shop": shop})), 0).await;
        ledger.fail(refused(&format!("{shop}/{id}"), 1, message, 1)).await;
    }
    let theirs = groups(ledger, &only("at"), 2).await;
    assert_eq!(theirs.len(), 1);
    assert_eq!((theirs[0].orders, theirs[0].shops.join("+")), (1, "at".to_owned()));
    assert_eq!(theirs[0].message, "article 'ours' unknown");
    assert_eq!(theirs[0].failures.iter().sum::<u64>(), 1);
    let hidden = fingerprint(ErrorClass::Rejected, "http_422", "only in de");
    assert!(group(ledger, &all(), &hidden, 2).await.is_some());
    assert!(group(ledger, &only("at"), &hidden, 2).await.is_none());
    let filter = OrderFilter { shops: only("at"), ..OrderFilter::default() };
    for sort in SortBy::ALL.map(SortBy::natural) {
        let page = ledger.store.page_orders(&filter, sort, None, 10).await.expect("answers");
        assert_eq!(page.iter().map(|o| o.key.to_string()).collect::<Vec<_>>(), ["at/2"]);
    }
    assert_eq!(ledger.store.count_orders(&filter).await.expect("answers"), 1);
    let asked = OrderFilter { shop: Some("de".to_owned()), ..filter };
    assert_eq!(ledger.store.count_orders(&asked).await.expect("answers"), 0);
}

async fn every_sort_visits_each_order_once(ledger: &Ledger) {
    // Few moments for many orders: shop and number decide among equals.
    let documents: Vec<String> = (0..60)
        .map(|n| {
            order_with(&format!("P-{n}"), &json!({"shop": if n % 2 == 0 { "de" } else { "at" }}))
        })
        .collect();
    for (n, document) in (0i64..).zip(&documents) {
        accept(ledger, document, n / 20).await;
        let id = placed(document).order.key.to_string();
        match n % 4 {
            0 => drop(ledger.fail(failure(&id, 1, at(100 + n / 30))).await),
            1 => {
                ledger.fail(failure(&id, 1, at(100))).await;
                ledger.fail(refused(&id, 2, "no", 110)).await;
            }
            2 if n > 30 => drop(ledger.confirm(&id, 1, &format!("ERP-{n}"), at(120)).await),
            _ => {}
        }
    }
    for filter in [OrderFilter::default(), OrderFilter::lost()] {
        let expected = ledger.store.count_orders(&filter).await.expect("the ledger answers");
        for by in SortBy::ALL {
            for sort in [by.natural(), by.natural().reversed()] {
                for size in [1, 7, 1_000] {
                    let seen = walk(ledger, &filter, sort, size).await;
                    assert_eq!(seen.len() as u64, expected, "{sort} by {size}");
                    let keys: BTreeSet<&OrderKey> = seen.iter().map(|mark| &mark.key).collect();
                    assert_eq!(keys.len() as u64, expected, "{sort} by {size}");
                    assert!(
                        seen.windows(2).all(|pair| is_sorted(&pair[0], &pair[1], sort)),
                        "{sort}"
                    );
                }
            }
        }
    }
}

async fn walk(ledger: &Ledger, filter: &OrderFilter, sort: Sort, size: u32) -> Vec<Mark> {
    let mut seen: Vec<Mark> = Vec::new();
    loop {
        let page = ledger.store.page_orders(filter, sort, seen.last(), size).await;
        let page = page.expect("the ledger answers");
        if page.is_empty() {
            return seen;
        }
        seen.extend(page.iter().map(|order| Mark::of(order, sort)));
    }
}

fn is_sorted(a: &Mark, b: &Mark, sort: Sort) -> bool {
    let none_first = sort.by == SortBy::Tries && !sort.descending;
    let equal = |mark: &Mark| mark.value.unwrap_or_else(|| mark.received_at.as_millisecond());
    match (a.value, b.value) {
        (Some(_), None) => !none_first,
        (None, Some(_)) => none_first,
        _ if sort.descending => (equal(a), &a.key) > (equal(b), &b.key),
        _ => (equal(a), &a.key) < (equal(b), &b.key),
    }
}

async fn found(ledger: &Ledger, filter: &OrderFilter) -> Vec<String> {
    let page = ledger.store.page_orders(filter, Sort::default(), None, 100).await;
    let page = page.expect("the ledger answers");
    let count = ledger.store.count_orders(filter).await.expect("the ledger answers");
    assert_eq!(page.len() as u64, count, "{filter:?}");
    page.into_iter().map(|order| order.key.order_id.to_string()).collect()
}

async fn new_filters_find_what_they_name(ledger: &Ledger) {
    let lines = json!([
        {"sku": "A", "quantity": 1, "unit_price": 1}, {"sku": "B", "quantity": 1, "unit_price": 1}
    ]);
    accept(ledger, &order_with("1", &json!({"payment": {"method": "card"}, "lines": lines})), 0)
        .await;
    accept(ledger, &order_with("2", &json!({"payment": {"name": "invoice"}})), 1).await;
    accept(ledger, &order("3"), 2).await;
    ledger.fail(refused("2", 1, "no such article", 3)).await;
    ledger.fail(failure("3", 1, at(3))).await;
    ledger.confirm("3", 2, "ERP-3", at(4)).await;
    let some = |text: &str| Some(text.to_owned());
    let name = fingerprint(ErrorClass::Rejected, "http_422", "no such article");
    let default = OrderFilter::default;
    for (filter, expected) in [
        (OrderFilter { payment: some("card"), ..default() }, vec!["1"]),
        (OrderFilter { payment: some("invoice"), ..default() }, vec!["2"]),
        (OrderFilter { sku: some("B"), ..default() }, vec!["1"]),
        (OrderFilter { sku: some("4711"), ..default() }, vec!["3", "2"]),
        (OrderFilter { code: some("http_422"), ..default() }, vec!["2"]),
        (OrderFilter { code: some("http_503"), ..default() }, vec!["3"]),
        (OrderFilter { code: some("http_503"), ..OrderFilter::lost() }, vec![]),
        (OrderFilter { fingerprint: some(&name), ..OrderFilter::lost() }, vec!["2"]),
        (OrderFilter { fingerprint: some(&name), phase: some("parked"), ..default() }, vec!["2"]),
        (OrderFilter { fingerprint: some(&name), phase: some("nowhere"), ..default() }, vec![]),
    ] {
        assert_eq!(found(ledger, &filter).await, expected, "{filter:?}");
    }
    assert_eq!(ledger.order("1").await.record.facts.payment, some("card"));
}

async fn a_count_equals_the_list(ledger: &Ledger) {
    some_orders(ledger).await;
    let states = [None, Some(OrderState::Payed), Some(OrderState::OrderedFailed)];
    for state in states {
        for phase in [None, Some("queued"), Some("parked"), Some("transferred")] {
            for shop in [None, Some("default"), Some("at")] {
                let phase = phase.map(str::to_owned);
                let shop = shop.map(str::to_owned);
                found(ledger, &OrderFilter { state, phase, shop, ..OrderFilter::default() }).await;
            }
        }
    }
}

async fn an_article_is_found_whole_or_not_at_all(ledger: &Ledger) {
    let skus = ["10%", "10_1", "10!1", "a\nb", "100", "\u{1}x"];
    for (n, sku) in skus.into_iter().enumerate() {
        let lines = json!([{"sku": sku, "quantity": 1, "unit_price": 1}]);
        accept(ledger, &order_with(&n.to_string(), &json!({"lines": lines})), 0).await;
    }
    for (n, sku) in skus.into_iter().enumerate() {
        let filter = OrderFilter { sku: Some(sku.to_owned()), ..OrderFilter::default() };
        assert_eq!(found(ledger, &filter).await, [n.to_string()], "{sku:?}");
    }
    for part in ["10", "1", "00", "a", "b"] {
        let filter = OrderFilter { sku: Some(part.to_owned()), ..OrderFilter::default() };
        assert!(found(ledger, &filter).await.is_empty(), "{part:?}");
    }
}

async fn workers_are_alive_while_they_are_seen(ledger: &Ledger) {
    let worker = |name: &str, seen: i64| Worker {
        name: name.to_owned(),
        roles: vec!["submitter".to_owned(), "web".to_owned()],
        started_at: at(0),
        seen_at: at(seen),
    };
    for (name, seen) in [("a", 0), ("b", 0), ("a", 20)] {
        ledger.store.heartbeat(&worker(name, seen)).await.expect("the ledger answers");
    }
    let alive = async |now| ledger.store.workers(at(now)).await.expect("the ledger answers");
    assert_eq!(alive(25).await, [worker("a", 20), worker("b", 0)]);
    assert_eq!(alive(31).await, [worker("a", 20)]);
    ledger.store.deregister("b").await.expect("the ledger answers");
    ledger.store.deregister("nobody").await.expect("the ledger answers");
    assert_eq!(alive(25).await, [worker("a", 20)], "who says goodbye is gone at once");
    assert!(alive(51).await.is_empty());
    ledger.store.heartbeat(&worker("c", 90_000)).await.expect("the ledger answers");
    assert_eq!(alive(0).await, [worker("c", 90_000)], "the dead are forgotten");
}

async fn documents_come_back_as_they_came(ledger: &Ledger) {
    accept(ledger, &order("1"), 0).await;
    accept(ledger, &order_with("1", &json!({"shop": "at"})), 0).await;
    let keys = [key("1"), key("at/1"), key("gone")];
    let found = ledger.store.documents(&keys).await.expect("the ledger answers");
    assert_eq!(found.len(), 2);
    assert!(found.iter().any(|(of, document)| *of == key("1") && **document == *order("1")));
    assert!(ledger.store.documents(&[]).await.expect("the ledger answers").is_empty());
}
