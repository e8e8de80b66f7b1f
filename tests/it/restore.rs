//! The database of last night is restored: what the ERP got since then is asked about, and nothing is entered twice.

use std::process::Stdio;

use tokio::process::Command;

use crate::world::{Place, World, drop_postgres_schema, erp_number, order};

/// Copies the ledger as the manual says, while nothing writes to it.
async fn back_up(world: &World) {
    let copy = world.folder.path().join("backup");
    match world.place {
        Place::Embedded => {
            world.tamper(&format!("VACUUM INTO '{}'", copy.display())).await;
        }
        Place::Services => {
            let schema = format!("--schema={}", world.name);
            let file = format!("--file={}", copy.display());
            run("pg_dump", &["--no-owner", &schema, &file, &world.postgres]).await;
        }
    }
}

async fn restore(world: &mut World) {
    let copy = world.folder.path().join("backup");
    match world.place {
        // Not over the file that the test itself may still have open.
        Place::Embedded => world.set("database.url", &format!("sqlite://{}", copy.display())),
        Place::Services => {
            drop_postgres_schema(&world.postgres, &world.name).await;
            let file = format!("--file={}", copy.display());
            let quiet = ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", &file, &world.postgres];
            run("psql", &quiet).await;
        }
    }
}

async fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let done = command.args(arguments).stdin(Stdio::null()).output().await;
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}; it comes with PostgreSQL"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

async fn nothing_is_entered_twice_after_a_restore(place: Place) {
    let mut world = World::new(place).await;
    world.make_ready().await;
    world.start(&["serve"]).await;
    world.place(&[order("before")]).await;
    world.until_phase("before", "transferred").await;
    world.stop().await;
    back_up(&world).await;
    world.start(&["serve"]).await;
    world.place(&[order("since")]).await;
    world.until_phase("since", "transferred").await;
    let number = erp_number(&world.order("since").await).expect("it has a number");
    world.stop().await;

    world.forget_store();
    restore(&mut world).await;
    assert!(world.find("since").await.is_none(), "the ledger of last night does not know it");
    world.set("erp.ask_before_first_send", "true");
    world.start(&["serve"]).await;
    // The broker or an archive brings both again, and a new one.
    world.place(&[order("before"), order("since"), order("new")]).await;
    for id in ["before", "since", "new"] {
        world.until_phase(id, "transferred").await;
        assert_eq!(world.stub.orders()[id].documents.len(), 1, "{id} is in the ERP once");
    }
    assert_eq!(erp_number(&world.order("since").await), Some(number), "as the ERP has it");
    let checked = world.ok(&["ledger", "check"]).await;
    assert!(checked.starts_with("received 3 = confirmed 3 "), "{checked}");
    world.end().await;
}

#[tokio::test]
async fn nothing_is_entered_twice_after_a_restore_of_sqlite() {
    nothing_is_entered_twice_after_a_restore(Place::Embedded).await;
}

#[tokio::test]
async fn nothing_is_entered_twice_after_a_restore_of_postgres() {
    nothing_is_entered_twice_after_a_restore(Place::Services).await;
}
