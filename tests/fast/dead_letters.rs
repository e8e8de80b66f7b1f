//! What cannot be accepted becomes a dead letter, names the place, and stops nobody.

use order_relay::ops::intake::Replayed;
use serde_json::json;

use crate::erp::Turn::*;
use crate::paused;
use crate::world::{World, document, key, operator};

/// A message, the reason and the place that its dead letter names.
macro_rules! refused {
    ($($name:ident: $body:expr => $reason:literal, $place:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let world = World::new().await;
            let body: Vec<u8> = $body.into();
            world.place("before").await;
            world.send("order.placed", &body).await;
            world.place("after").await;
            world.until("after", "transferred").await;
            world.until("before", "transferred").await;
            let letters = world.dead_letters().await;
            assert_eq!(letters.len(), 1);
            assert_eq!((letters[0].reason.as_str(), letters[0].place.as_deref()), ($reason, $place), "{}", letters[0].detail);
            assert_eq!(letters[0].body, body, "every byte is kept");
        }
    )*};
}

fn with(changes: &serde_json::Value) -> String {
    document("1", changes)
}

refused! {
    bytes_that_are_not_text: b"\xff\xfe".to_vec() => "not_utf8", Some("byte 0");
    nothing_at_all: "" => "not_json", Some("line 1, column 0");
    half_a_document: "{\"order_id\": \"1\"" => "not_json", Some("line 1, column 16");
    a_list_instead_of_an_order: "[]" => "schema", Some("/");
    a_key_that_stands_twice: "{\"order_id\":\"1\",\"order_id\":\"2\"}" => "duplicate_key", Some("/order_id");
    no_currency: with(&json!({"currency": null})) => "schema", Some("/currency");
    a_currency_that_does_not_exist: with(&json!({"currency": "EURO"})) => "schema", Some("/currency");
    a_total_that_is_no_number: with(&json!({"total": "a lot"})) => "schema", Some("/total");
    no_lines: with(&json!({"lines": []})) => "schema", Some("/lines");
    a_line_without_article: with(&json!({"lines": [{"quantity": 1, "unit_price": 1}]})) => "schema", Some("/lines/0");
    a_line_with_a_bad_price: with(&json!({"lines": [{"sku": "1", "quantity": 1, "unit_price": "x"}]})) => "schema", Some("/lines/0/unit_price");
    an_order_number_with_a_blank: with(&json!({"order_id": "a b"})) => "schema", Some("/order_id");
    a_number_that_is_a_path: with(&json!({"order_id": ".."})) => "schema", Some("/order_id");
    a_shop_with_a_slash: with(&json!({"shop": "a/b"})) => "schema", Some("/shop");
    a_state_that_is_done: with(&json!({"state": "confirmed"})) => "invalid_state", Some("/state");
    a_mail_address_that_is_none: with(&json!({"customer": {"email": "x"}})) => "schema", Some("/customer/email");
}

paused! {
    async fn a_letter_that_comes_again_is_counted_again(world) {
        for _ in 0..4 {
            world.send("order.placed", b"{}").await;
        }
        world.seconds(5).await;
        let letters = world.dead_letters().await;
        assert_eq!((letters.len(), letters[0].seen), (1, 4));
    }

    async fn a_message_that_finds_no_queue_is_kept(world) {
        world.send("order.plcaed", document("1", &json!({})).as_bytes()).await;
        world.seconds(5).await;
        let letters = world.dead_letters().await;
        assert_eq!((letters.len(), letters[0].routing_key.as_str()), (1, "order.plcaed"));
    }

    async fn a_fixed_letter_becomes_an_order(world) {
        world.send("order.placed", b"{").await;
        world.seconds(5).await;
        let letter = world.dead_letters().await.remove(0);
        let fixed = document("1", &json!({})).into_bytes();
        let replayed = world.ops.replay(&letter, Some(fixed), &world.act("fixed")).await.expect("it is taken");
        assert!(matches!(replayed, Replayed::Order(_)));
        world.until("1", "transferred").await;
        assert_eq!(world.dead_letters().await.len(), 0);
    }

    async fn every_fault_of_a_letter_is_told_in_one_pass(world) {
        let lines = json!([{"sku": "1", "quantity": 1, "unit_price": 1}, {"sku": "2", "quantity": "two", "unit_price": 1}]);
        world.send("order.placed", with(&json!({"order_id": "1 ", "total": "x", "lines": lines})).as_bytes()).await;
        world.send("order.placed", b"{").await;
        world.seconds(5).await;
        let letters = world.dead_letters().await;
        let of = |reason: &str| letters.iter().find(|letter| letter.reason == reason).expect("it is kept");
        let faults = world.ops.letter_faults(of("schema"));
        let places: Vec<_> = faults.iter().filter_map(|fault| fault.place.as_deref()).collect();
        assert_eq!(places, ["/order_id", "/total", "/lines/1/quantity"]);
        assert!(world.ops.letter_faults(of("not_json")).is_empty(), "its one fault is its reason");
    }

    async fn a_letter_that_is_still_bad_stays(world) {
        world.send("order.placed", b"{").await;
        world.seconds(5).await;
        let letter = world.dead_letters().await.remove(0);
        let replayed = world.ops.replay(&letter, None, &world.act("again")).await.expect("it answers");
        assert!(matches!(replayed, Replayed::Refused(_)));
        assert_eq!(world.dead_letters().await.len(), 1);
    }

    async fn a_discarded_letter_stays_readable(world) {
        world.send("order.placed", b"{").await;
        world.seconds(5).await;
        let letter = world.dead_letters().await.remove(0);
        world.ops.discard(&letter, &world.act("a test")).await.expect("it is done");
        assert_eq!(world.dead_letters().await.len(), 0);
        let kept = world.ops.dead_letter(&operator(), &letter.id.to_string()).await.expect("it is there");
        assert_eq!(kept.status, "discarded");
    }

    async fn a_letter_is_settled_once(world) {
        world.send("order.placed", b"{").await;
        world.seconds(5).await;
        let letter = world.dead_letters().await.remove(0);
        world.ops.discard(&letter, &world.act("a test")).await.expect("it is done");
        let again = world.ops.discard(&letter, &world.act("a test")).await.expect_err("it is settled");
        assert!(again.to_string().ends_with("is open already") || again.to_string().contains("already"));
    }

    async fn a_thousand_bad_messages_stop_no_good_one(world) {
        for n in 0..1_000 {
            world.send("order.placed", format!("{{{n}").as_bytes()).await;
        }
        world.place("good").await;
        world.until("good", "transferred").await;
        world.wait("all are kept", async || world.dead_letters().await.len() == 1_000).await;
    }

    async fn a_panic_of_ours_hurts_one_order_alone(world) {
        world.erp.will("bad", &[Panic]);
        world.place("bad").await;
        world.place("good").await;
        world.until("good", "transferred").await;
        world.until("bad", "transferred").await;
        assert_eq!(world.erp.has(&key("bad")), 1);
    }
}
