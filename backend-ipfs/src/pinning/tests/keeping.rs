//! What comes of a log that is kept, at services that do as they like.

use std::collections::BTreeSet;

use serde_json::json;
use talkbox_core::Timestamp;
use tokio::sync::watch;

use super::{
    server::{Say, Server},
    world::{LOG, World, block},
};
use crate::pinning::{Standing, root::walk};

impl World {
    async fn standing(&self, seq: i64) -> Standing {
        self.keeper.standing(vec![(LOG.to_owned(), seq)]).await.expect("known").remove(0).remove(0)
    }

    async fn state(&self) -> (&'static str, u64, u64) {
        let report = self.keeper.status().await.expect("known").remove(0);
        (report.state, report.covered, report.of)
    }

    async fn details(&self) -> String {
        self.keeper.status().await.expect("known").remove(0).details.unwrap_or_default()
    }
}

#[tokio::test]
async fn a_log_that_is_quiet_is_pinned_and_said_to_be_only_then() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    assert_eq!(world.after(0).await, 10);
    assert_eq!(world.state().await, ("pending", 0, 3));
    world.grow(LOG, 5);
    assert_eq!(world.after(9).await, 10, "it has grown: that is not quiet");
    assert!(server.asked().is_empty());
    assert_eq!(world.after(10).await, 2);
    let asked = server.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.body["meta"]["talkbox"].as_str()), ("POST", Some(LOG)));
    assert_eq!(asked.body["origins"], json!(["/ip4/1.1.1.1/tcp/4001"]), "nothing of one's own network");
    // What it is asked to pin is there, and all of the log is below it.
    let root = asked.body["cid"].as_str().expect("a root").parse().expect("a CID");
    let nodes = world.shelf.nodes.lock().expect("unharmed").clone();
    let blocks = walk(&root, LOG, 6, |cid| nodes.get(cid).cloned()).expect("whole");
    assert_eq!(BTreeSet::from_iter(blocks), (0..6).map(block).collect());
    for state in ["queued", "pinning"] {
        server.set("request-1", state);
        world.after(300).await;
        assert_eq!((world.state().await, world.standing(1).await), ((state, 0, 5), Standing::Pending));
    }
    server.set("request-1", "pinned");
    assert_eq!(world.after(300).await, 12 * 3600);
    assert_eq!(world.state().await, ("pinned", 5, 5));
    assert_eq!((world.standing(5).await, world.standing(6).await), (Standing::Pinned, Standing::Pending));
}

#[tokio::test]
async fn a_pin_stays_until_the_next_root_is_pinned_too() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.settle().await;
    server.set("request-1", "pinned");
    world.after(2).await;
    let first = world.nodes();
    world.grow(LOG, 4);
    server.routes();
    world.settle().await;
    assert_eq!(server.routes(), ["POST /pins"]);
    assert_eq!(server.pins().len(), 2);
    assert_eq!(world.state().await, ("queued", 3, 4));
    assert_eq!((world.standing(3).await, world.standing(4).await), (Standing::Pinned, Standing::Pending));
    server.set("request-2", "pinned");
    world.after(2).await;
    assert_eq!(server.routes(), ["GET /pins/request-2", "DELETE /pins/request-1"]);
    assert_eq!((world.state().await, world.standing(4).await), (("pinned", 4, 4), Standing::Pinned));
    assert!(world.nodes().iter().all(|node| !first.contains(node)), "nodes go with their root");
    assert!(!world.nodes().is_empty());
}

#[tokio::test]
async fn what_failed_is_replaced_after_a_pause_by_all_that_is_there_then() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.settle().await;
    server.set("request-1", "failed");
    assert_eq!(world.after(2).await, 60);
    assert_eq!(world.state().await, ("failed", 0, 3));
    assert_eq!(world.standing(3).await, Standing::Failed { why: "place 1 in the queue".to_owned() });
    assert_eq!(world.standing(4).await, Standing::Pending);
    world.grow(LOG, 4);
    server.routes();
    server.inside().begins_as = "failed";
    for (number, before, pause) in
        [(1, 60, 120), (2, 120, 240), (3, 240, 480), (4, 480, 960), (5, 960, 1920), (6, 1920, 3600), (7, 3600, 3600)]
    {
        assert_eq!(world.after(before - 1).await, 1);
        assert_eq!(world.after(1).await, pause);
        // The API says that it deletes the former one; this is asked for all the same, since not all services do.
        let (replaced, deleted) = (format!("POST /pins/request-{number}"), format!("DELETE /pins/request-{number}"));
        assert_eq!(server.routes(), [replaced, deleted]);
        assert_eq!(server.pins().len(), 1, "one takes the other's place");
    }
    server.inside().begins_as = "pinned";
    world.after(3600).await;
    assert_eq!(world.state().await, ("pinned", 4, 4));
}

#[tokio::test]
async fn a_pin_under_way_is_let_finish_unless_it_never_does() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.settle().await;
    for entries in 4..10 {
        world.grow(LOG, entries);
        world.after(300).await;
    }
    assert_eq!(server.pins().len(), 1);
    assert!(server.routes().iter().skip(1).all(|route| route == "GET /pins/request-1"));
    world.after(3600).await;
    assert_eq!(server.routes(), ["POST /pins/request-1", "DELETE /pins/request-1"]);
    server.set("request-2", "pinned");
    world.after(300).await;
    assert_eq!(world.state().await, ("pinned", 9, 9));
}

#[tokio::test]
async fn an_answer_that_was_not_heard_makes_no_second_pin() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    server.inside().say.push_back(Say::DoneUnheard);
    world.settle().await;
    assert_eq!((server.pins().len(), world.state().await.0), (1, "failed"));
    // And not after a crash, either.
    let world = world.again(&[&server]).await;
    server.routes();
    world.after(60).await;
    assert_eq!(server.routes(), ["GET /pins"]);
    server.set("request-1", "pinned");
    world.after(60).await;
    assert_eq!((server.pins().len(), world.state().await), (1, ("pinned", 3, 3)));
}

#[tokio::test]
async fn an_unheard_pin_of_an_older_root_is_replaced() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    server.inside().say.push_back(Say::DoneUnheard);
    world.settle().await;
    world.grow(LOG, 4);
    server.routes();
    world.after(60).await;
    assert_eq!(server.routes(), ["GET /pins", "POST /pins/request-1"]);
    assert_eq!(server.pins().len(), 1);
}

#[tokio::test]
async fn a_replacement_that_was_not_heard_is_found_again() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    server.inside().begins_as = "failed";
    world.settle().await;
    server.inside().begins_as = "queued";
    server.inside().say.push_back(Say::DoneUnheard);
    world.after(60).await;
    server.routes();
    world.after(120).await;
    assert_eq!(server.routes(), ["POST /pins/request-1", "GET /pins", "DELETE /pins/request-1"]);
    assert_eq!((server.pins().len(), world.state().await.0), (1, "queued"));
}

#[tokio::test]
async fn a_service_in_trouble_is_left_alone_with_all_its_logs() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.grow("/orbitdb/zdpuAother", 3);
    world.after(0).await;
    server.say("429 Too Many Requests", "retry-after: 500\r\n", "");
    assert_eq!(world.after(10).await, 500);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(world.after(499).await, 1);
    assert!(server.asked().is_empty());
    assert!(world.details().await.contains("slow down"));
    server.say("401 Unauthorized", "", "");
    assert_eq!(world.after(1).await, 3600);
    assert!(world.details().await.contains("token"));
    world.after(3600).await;
    assert_eq!(server.pins().len(), 2, "both go on at once, however long it took");
    assert!(!world.details().await.contains("token"));
}

#[tokio::test]
async fn one_service_in_trouble_does_not_keep_the_other_from_it() {
    let (bad, good) = (Server::start().await, Server::start().await);
    let world = World::of(&[&bad, &good], 3).await;
    good.inside().begins_as = "pinned";
    bad.say("503 Service Unavailable", "", "");
    world.settle().await;
    assert_eq!(world.keeper.services().collect::<Vec<_>>(), ["mock-0", "mock-1"]);
    let standing = world.keeper.standing(vec![(LOG.to_owned(), 3)]).await.expect("known").remove(0);
    assert_eq!(standing[1], Standing::Pinned);
    assert!(matches!(&standing[0], Standing::Failed { why } if why.contains("503")), "{standing:?}");
    world.after(60).await;
    assert_eq!((bad.pins().len(), good.pins().len()), (1, 1));
    assert_eq!(bad.pins()[0].1, good.pins()[0].1, "the same blocks have the same root");
}

#[tokio::test]
async fn what_a_service_has_lost_is_asked_for_again() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    server.inside().begins_as = "pinned";
    world.settle().await;
    assert_eq!(world.standing(3).await, Standing::Pinned);
    server.inside().pins.clear();
    server.routes();
    world.after(12 * 3600).await;
    assert!(matches!(world.standing(3).await, Standing::Failed { .. }));
    world.after(1).await;
    assert_eq!(world.standing(3).await, Standing::Pinned);
    assert_eq!(server.routes()[..2], ["GET /pins/request-1", "DELETE /pins/request-1"]);
    server.set("request-2", "failed");
    world.after(12 * 3600).await;
    assert!(matches!(world.standing(3).await, Standing::Failed { .. }));
    world.after(60).await;
    assert_eq!((world.standing(3).await, server.pins().len()), (Standing::Pinned, 1));
}

#[tokio::test]
async fn a_status_of_something_else_pins_nothing() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.settle().await;
    {
        let mut inside = server.inside();
        inside.pins[0]["status"] = json!("pinned");
        inside.pins[0]["pin"]["cid"] = json!(block(7).to_string());
    }
    world.after(2).await;
    assert!(matches!(world.standing(1).await, Standing::Failed { .. }));
}

#[tokio::test]
async fn delegates_are_dialled_where_they_are_open_and_while_it_helps() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    server.inside().delegates =
        ["/ip4/1.1.1.1/tcp/4001", "/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", "nonsense"]
            .map(str::to_owned)
            .to_vec();
    world.settle().await;
    assert_eq!(world.dialled(), ["/ip4/1.1.1.1/tcp/4001"]);
    world.after(2).await;
    assert_eq!(world.dialled(), ["/ip4/1.1.1.1/tcp/4001"], "again, in case the connection was lost");
    server.set("request-1", "pinned");
    world.after(2).await;
    assert!(world.dialled().is_empty());
}

#[tokio::test]
async fn a_month_that_is_dropped_takes_its_pin_along() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    server.inside().begins_as = "pinned";
    world.settle().await;
    world.logs().clear();
    server.routes();
    server.say("500 Internal Server Error", "", "");
    world.after(1).await;
    assert_eq!(server.pins().len(), 1, "it is tried again");
    world.after(60).await;
    assert!(server.pins().is_empty() && world.nodes().is_empty());
    assert_eq!(server.routes(), ["DELETE /pins/request-1", "DELETE /pins/request-1"]);
}

#[tokio::test]
async fn nonsense_is_the_trouble_of_one_log() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.grow("/orbitdb/zdpuAother", 3);
    world.after(0).await;
    server.inside().begins_as = "pinned";
    server.say("202 Accepted", "", "{}");
    world.after(10).await;
    let states: Vec<_> = world.keeper.status().await.expect("known").into_iter().map(|report| report.state).collect();
    assert_eq!(states, ["failed", "pinned"]);
    world.after(60).await;
    assert_eq!(server.pins().len(), 2);
}

#[tokio::test]
async fn a_clock_that_was_wrong_does_not_stop_it() {
    let server = Server::start().await;
    let world = World::of(&[&server], 3).await;
    world.clock.set(Timestamp(4_000_000_000));
    world.settle().await;
    world.clock.set(Timestamp(1_800_000_000));
    server.set("request-1", "pinned");
    world.after(0).await;
    assert_eq!(world.state().await, ("pinned", 3, 3));
}

#[tokio::test]
async fn an_empty_log_costs_nothing_and_no_service_asks_nobody() {
    let server = Server::start().await;
    let world = World::of(&[&server], 0).await;
    for _ in 0..10 {
        world.after(3600).await;
    }
    assert!(server.asked().is_empty());
    let nobody = World::of(&[], 3).await;
    nobody.after(10).await;
    assert!(nobody.keeper.standing(vec![(LOG.to_owned(), 1)]).await.expect("known")[0].is_empty());
    assert!(nobody.keeper.status().await.expect("known").is_empty());
}

#[tokio::test]
async fn a_listing_is_the_services_own_word() {
    let (one, two) = (Server::start().await, Server::start().await);
    let world = World::of(&[&one, &two], 3).await;
    world.settle().await;
    one.inside().add(&json!({ "cid": block(9).to_string(), "name": "of somebody else" }));
    two.say("500 Internal Server Error", "", "");
    let lists = world.keeper.list().await;
    assert_eq!(lists.iter().map(|list| list.service.as_str()).collect::<Vec<_>>(), ["mock-0", "mock-1"]);
    let [other, own] = &lists[0].pins[..] else { panic!("two pins") };
    assert_eq!((other.name.as_deref(), other.log.as_deref()), (Some("of somebody else"), None));
    assert_eq!(own.log.as_deref(), Some(LOG));
    assert!(lists[1].pins.is_empty() && lists[1].error.is_some());
    assert!(serde_json::to_string(&lists).expect("JSON").contains("request-1"));
}

#[tokio::test]
async fn it_runs_until_it_is_told_to_stop() {
    let server = Server::start().await;
    let world = World::of(&[&server], 1000).await;
    let (stop, stopped) = watch::channel(false);
    server.inside().begins_as = "pinned";
    let run = world.keeper.run(stopped);
    let watching = async {
        // A thousand entries are worth a root at once.
        while world.state().await != ("pinned", 1000, 1000) {
            world.keeper.grown();
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
    };
    tokio::join!(run, watching);
}
