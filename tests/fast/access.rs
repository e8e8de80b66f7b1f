//! Who gets in, who is shown what of others, and who may steer what belongs to nobody.

use order_relay::domain::permission::{Grants, Role, RoleGrant};
use order_relay::domain::redrive::RedriveThrottle;
use order_relay::ops::logins::LoginFailure;
use order_relay::ops::people::NewUser;
use order_relay::ops::principal::Principal;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::redrives::{NewRedrive, Selection};
use serde_json::json;

use crate::paused;
use crate::world::{World, key, operator};

fn of_shop(name: &str, shop: &str) -> Principal {
    let mut grants = Grants::default();
    grants.add(Role::Operator.permissions(), Some(shop));
    Principal { name: format!("user:{name}"), from: None, grants }
}

const PASSWORD: &str = "three quiet horses 9";

async fn add(world: &World, name: &str) {
    let new = NewUser {
        name: name.to_owned(),
        password: PASSWORD.to_owned(),
        roles: vec![RoleGrant::everywhere(Role::Operator)],
        language: None,
    };
    world.ops.add_user(new, &world.act("new")).await.expect("it is added");
}

paused! {
    async fn who_sees_one_shop_is_not_told_what_the_erp_said_about_others(world) {
        world.ops.hold("default", &world.act("Erika Muster's order breaks it")).await.expect("held");
        let all = world.ops.circuits(&operator()).await.expect("they are shown");
        assert!(all[0].reason.as_deref().is_some_and(|reason| reason.contains("Erika Muster")));
        let seen = world.ops.circuits(&of_shop("max", "de")).await.expect("they are shown");
        assert_eq!((seen.len(), seen[0].state, seen[0].reason.as_deref()), (1, all[0].state, None));

        world.place_with("1", &json!({"shop": "de"})).await;
        world.seconds(5).await;
        let act = world.ops.act(&of_shop("max", "de"), Some("now"));
        let refused = world.ops.transfer(&key("de/1"), &act).await.expect_err("it is stopped");
        assert!(!refused.to_string().contains("Erika"), "{refused}");
    }

    async fn an_open_page_ends_when_its_user_may_do_something_else(world) {
        add(&world, "kim").await;
        let session = world.ops.log_in("kim", PASSWORD, None).await.expect("it answers").expect("in");
        let session = world.ops.session(&session.token, None).await.expect("it answers").expect("in");
        assert!(world.ops.is_still_in(&session).await.expect("it answers"));
        let roles = vec![RoleGrant { role: Role::Viewer, shop: Some("de".to_owned()) }];
        world.ops.set_roles("kim", roles, &world.act("less")).await.expect("it is done");
        assert!(!world.ops.is_still_in(&session).await.expect("it answers"));
    }

    async fn all_sessions_of_a_user_end_at_once(world) {
        add(&world, "kim").await;
        let log_in = async || world.ops.log_in("kim", PASSWORD, None).await.expect("it answers").expect("in");
        let (one, two) = (log_in().await, log_in().await);
        let few = world.ops.act(&of_shop("max", "de"), None);
        assert_eq!(world.ops.end_sessions("kim", &few).await.expect_err("not theirs").kind().status, 403);
        assert_eq!(world.ops.end_sessions("kim", &world.act("stolen")).await.expect("done"), 2);
        for session in [one, two] {
            assert!(world.ops.session(&session.token, None).await.expect("it answers").is_none());
        }
        assert_eq!(world.ops.end_sessions("kim", &world.act("again")).await.expect("done"), 0);
    }

    async fn nobody_locks_a_name_out_from_elsewhere(world) {
        add(&world, "kim").await;
        let log_in = async |password: &str, from: &str| {
            world.ops.log_in("kim", password, Some(from)).await.expect("it answers").map(|_| ())
        };
        for _ in 0..6 {
            drop(log_in("wrong horse entirely", "203.0.113.7").await);
        }
        let there = log_in(PASSWORD, "203.0.113.7").await;
        assert!(matches!(there, Err(LoginFailure::Wait { .. })), "{there:?}");
        assert_eq!(log_in(PASSWORD, "192.0.2.1").await, Ok(()), "kim sits elsewhere");
        // Many addresses together make it slower, and never impossible.
        for n in 10..50 {
            assert_eq!(log_in("wrong", &format!("203.0.113.{n}")).await, Err(LoginFailure::Wrong));
        }
        let before = world.clock.now();
        assert_eq!(log_in(PASSWORD, "192.0.2.1").await, Ok(()));
        let took = world.clock.now().duration_since(before);
        assert!((1..=3).contains(&took.as_secs()), "{took:?}");
    }

    async fn a_redrive_without_orders_is_steered_by_whoever_made_it(world) {
        let (max, kim) = (of_shop("max", "de"), of_shop("kim", "at"));
        let plan = NewRedrive {
            id: SystemClock.unique_id(),
            selection: Selection::Orders(Vec::new()),
            pace: RedriveThrottle::default(),
            known_fingerprints: Vec::new(),
            money: Vec::new(),
            items: Vec::new(),
        };
        let id = plan.id;
        world.store.add_redrive(plan, &world.ops.act(&max, None)).await.expect("the ledger answers");
        assert_eq!(world.ops.redrive(&kim, id).await.expect_err("not hers").kind().status, 404);
        assert!(world.ops.redrives(&kim, 9).await.expect("it answers").is_empty());
        let refused = world.ops.cancel_redrive(id, &world.ops.act(&kim, None)).await;
        assert_eq!(refused.expect_err("not hers").kind().status, 403);
        world.ops.redrive(&max, id).await.expect("his own");
        world.ops.cancel_redrive(id, &world.ops.act(&max, None)).await.expect("his own");
    }
}
