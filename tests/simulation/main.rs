//! Seeded worlds: the real core on several nodes, with a database, a NATS and clients that fail in every way
//! that a seed can think of, and checkers that say which promise was broken. `SEED=7 cargo test --test
//! simulation -- --exact one_seed --nocapture` replays a seed (`SIM_TRACE=1` prints all of it); `SIM_SEEDS=100000`
//! looks for new ones.

#[path = "../support/memory_store.rs"]
mod memory_store;
#[path = "../support/sessions.rs"]
mod sessions;

mod active;
mod admin;
mod checks;
mod client;
mod database;
mod faults;
mod greedy;
mod hardships;
mod links;
mod nats;
mod node;
mod plan;
mod poison;
mod reads;
mod replica;
mod requests;
mod rng;
mod runner;
mod sql;
mod sql_acks;
mod standby;
mod swarm;
mod takeover;
mod upload;
mod wire;
mod world;

use std::time::Duration;

use plan::Sabotage;
use runner::Amount;
use world::{Summary, World};

/// Seeds that once showed a mistake, and the mistake. Each change of what a world can do makes other worlds of them:
/// that the checkers would still notice the mistakes is what the sabotages below show.
const FOUND: &[(u64, &str)] = &[
    (0, "after a takeover, what was in flight took no room"),
    (
        5,
        "redelivery asked for the same read for ever: what was due first did not fit",
    ),
    (
        7,
        "messages that left the tail before their commit were taken for deleted",
    ),
    (
        21,
        "messages in flight that were deleted kept their subscription stalled",
    ),
    (
        29,
        "a start by time missed messages that were on their way to the store",
    ),
    (796, "a connection that nobody had asked was replaced"),
    (
        1219,
        "a subscription was made for a connection that was gone",
    ),
    (
        2706,
        "a deleted channel's row went in the same batch as its messages",
    ),
    (
        179_539_223_800_077,
        "a message that its age limit had dropped came back after a takeover",
    ),
    (
        94,
        "a late copy of a publish that a limit had dropped was stored again",
    ),
    (
        858,
        "publishes of a channel that was being deleted were taken for new",
    ),
    (
        4441,
        "what the term before had stored was not known to be missing after a failover of Postgres",
    ),
    (
        9590,
        "messages were put back into another channel that had got the number",
    ),
    (
        179_541_098_627_798,
        "a channel that a later term had made anew was deleted for one that was remembered",
    ),
    (
        179_541_098_610_188,
        "a subscribe that came late was carried out again, with another ack inbox than its client was told",
    ),
    (
        179_541_098_600_804,
        "a late close removed a subscription, which came back with another ack inbox",
    ),
    (
        179_541_633_714_708,
        "a client was replaced whose answer was lost, though it had answered a later question",
    ),
    (
        179_541_633_705_363,
        "a client that was closed came back by a takeover, with some of its subscriptions only",
    ),
    (
        179_541_633_708_846,
        "what an application acked counts for its subscription, made twice; the check counted it for one of them",
    ),
    (
        179_560_000_029_470,
        "a channel that a term had made anew was deleted for a lost one: the term had a lost term's number",
    ),
    (
        179_560_000_063_792,
        "a durable resumed and closed within a batch was answered in time; the check looked for its ack inbox in a row",
    ),
    (
        179_543_668_700_788,
        "an ack through a member whose subscribe was not committed made room; the check did not know the member yet",
    ),
    (
        179_541_098_618_707,
        "a node that had been frozen in its takeover was taken for the active",
    ),
    (
        179_541_098_626_246,
        "a member of a group was taken for the one that had made it",
    ),
    (
        87,
        "what was put back after a failover was read from the outbox, too, before it was gone there",
    ),
    (
        93,
        "a node that could not look at the tables since another one had taken over thought that it knew of all commits",
    ),
    (
        778_304,
        "a node took what it had committed for all of an epoch that another node had served too",
    ),
    (
        179_598_000_003_536,
        "a node took what it had been told for all of an epoch that another node served after that",
    ),
    (
        179_598_000_018_239,
        "a node took an epoch that it had served for the last one, after a failover that let a lower one follow",
    ),
    (
        179_598_000_025_179,
        "a standby took the publishes that it had heard for all that could have been stored, and others were published in SQL",
    ),
    (
        31,
        "after a failover, publishes that were put back were answered before that was committed",
    ),
    (
        179_595_130_402_653,
        "what a term had found stored was answered by the next one, which had lost it in a failover",
    ),
    (
        179_595_130_401_127,
        "acks of before a durable was moved back counted after a takeover",
    ),
    (
        179_598_000_005_222,
        "a term after the one in which a durable was moved back passed over what a late ack of before was for",
    ),
    (
        179_598_000_005_012,
        "the check took a position that a failover had lost for the one that got its number",
    ),
    (
        179_650_000_014_494,
        "after many refusals a publish was tried before the commit that releases the broker, and its refusal ended the term",
    ),
    (
        179_650_000_000_181,
        "a client that had less time to answer than what counts as a pause was closed for one",
    ),
    (
        179_650_000_040_700,
        "a read that had failed was forgotten with what was refused along with it, and its durable waited for ever",
    ),
];

/// Seeds within which every sabotage must be noticed.
const SABOTAGE_SEEDS: u64 = 200;

fn run(seed: u64) -> Summary {
    World::new(seed, None)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn one_seed() {
    let summary = run(number("SEED").unwrap_or(1));
    eprintln!("{summary:?}");
}

#[test]
fn fixed_seeds_hold_and_reach_what_they_are_for() {
    let mut total = Summary::default();
    for seed in 0..100 {
        let summary = run(seed);
        total.terms += summary.terms;
        total.stored += summary.stored;
        total.deliveries += summary.deliveries;
        total.redeliveries += summary.redeliveries;
        total.reads += summary.reads;
        total.reads_astray += summary.reads_astray;
        total.duplicates += summary.duplicates;
        total.failovers += summary.failovers;
        total.restored += summary.restored;
        total.passed_over += summary.passed_over;
        total.believed += summary.believed;
        total.acked_in_sql += summary.acked_in_sql;
        total.moved += summary.moved;
        total.emptied += summary.emptied;
        total.refused += summary.refused;
        total.greedy += summary.greedy;
    }
    eprintln!("{total:?}");

    assert!(total.terms > 200, "terms: {total:?}");
    assert!(total.stored > 10_000, "publishes: {total:?}");
    assert!(total.deliveries > 50_000, "deliveries: {total:?}");
    assert!(total.redeliveries > 1_000, "redeliveries: {total:?}");
    assert!(total.reads > 5_000, "reads: {total:?}");
    assert!(total.reads_astray > 100, "reads led elsewhere: {total:?}");
    assert!(total.failovers > 20, "failovers of Postgres: {total:?}");
    assert!(total.restored > 20, "messages put back: {total:?}");
    assert!(total.passed_over > 20, "messages lost: {total:?}");
    assert!(total.believed > 3, "synchronous replicas: {total:?}");
    assert!(total.acked_in_sql > 1_000, "acks in SQL: {total:?}");
    assert!(total.refused > 100, "refused by Postgres: {total:?}");
    assert!(total.greedy > 100, "greedy clients: {total:?}");
    assert!(total.moved > 0, "positions moved by operators: {total:?}");
    assert!(
        total.emptied > 0,
        "channels emptied by operators: {total:?}"
    );
}

#[test]
fn found_seeds_hold() {
    for &(seed, mistake) in FOUND {
        if let Err(failure) = World::new(seed, None).run() {
            panic!("once: {mistake}\n{failure}");
        }
    }
}

/// Further seeds: 20, or as many as `SIM_SEEDS` says or `SIM_MINUTES` last, from `SIM_FROM` on, on `SIM_THREADS`
/// threads, and no more after `SIM_FAILURES`. `scripts/simulate` sets these.
#[test]
fn further_seeds_hold() {
    let minutes = number("SIM_MINUTES");
    let amount = Amount {
        first: number("SIM_FROM").unwrap_or(1_000_000),
        seeds: number("SIM_SEEDS").unwrap_or(if minutes.is_some() { u64::MAX } else { 20 }),
        limit: minutes.map(|minutes| Duration::from_secs(minutes * 60)),
        threads: number("SIM_THREADS").map_or(1, |threads| {
            usize::try_from(threads).expect("a number of threads")
        }),
        failures: number("SIM_FAILURES").map_or(10, |failures| {
            usize::try_from(failures).expect("a number of failures")
        }),
    };

    let outcome = runner::run(&amount);

    eprintln!(
        "{} seeds from {} on in {:.1} s: {} failed",
        outcome.seeds,
        amount.first,
        outcome.took.as_secs_f64(),
        outcome.failures.len()
    );
    let reports: Vec<&str> = outcome
        .failures
        .iter()
        .map(|(_, report)| &**report)
        .collect();
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// A suite that cannot fail proves nothing: the world breaks one rule, and a checker must name it.
fn is_noticed(sabotage: Sabotage, facts: &[&str]) {
    let failed = (0..SABOTAGE_SEEDS).find_map(|seed| World::new(seed, Some(sabotage)).run().err());
    let failure = failed.unwrap_or_else(|| {
        panic!("{sabotage:?} is not noticed within {SABOTAGE_SEEDS} seeds");
    });
    assert!(
        facts.iter().any(|fact| failure.fact.starts_with(fact)),
        "{sabotage:?} is noticed as something else: {}",
        failure.fact
    );
}

macro_rules! sabotages {
    ($($name:ident: $sabotage:ident, $($fact:literal)|+;)*) => {
        $(#[test]
        fn $name() {
            is_noticed(Sabotage::$sabotage, &[$($fact),+]);
        })*
    };
}

sabotages! {
    an_answer_before_its_commit_is_noticed: ReleaseBeforeCommit,
        "a publish is acked after its commit" | "a connect is answered after its commit"
        | "a subscribe is answered after its commit" | "a subscription is committed before";
    acting_without_trust_is_noticed: SkipTrustWindow, "only the holder of the lock speaks";
    a_commit_of_an_ended_session_is_noticed: CommitOnEndedSession,
        "no commit of epoch" | "sequences are dense";
    a_lost_row_is_noticed: LoseRows, "an acked message is in the table";
    forgetting_what_was_in_flight_is_noticed: ForgetInFlight,
        "the tables show as acked what was acked" | "everything arrives" | "everything is acked";
    forgetting_who_holds_what_is_noticed: ForgetHolders, "at most";
    forgetting_what_is_acked_in_sql_is_noticed: ForgetSqlAcks, "a term begins with what is acked in SQL";
    a_read_that_hides_a_row_is_noticed: HideRowsFromReads,
        "the tables show as acked what was acked" | "no message is below its channel's first"
        | "at most";
    closing_a_client_that_answers_is_noticed: IgnorePongs, "no client that answers is closed";
    a_message_before_its_subscription_s_answer_is_noticed: DeliverBeforeReplies,
        "a subscription's answer precedes its messages";
    replaying_what_is_stored_is_noticed: ReplayEverything, "what is stored is not done again"
        | "a publish is stored once";
    a_dropped_message_that_comes_back_is_noticed: ForgetDropped,
        "what is stored is not done again";
    forgetting_unanswered_requests_is_noticed: ForgetUnanswered,
        "no request is lost in a takeover";
    storing_a_late_copy_is_noticed: ForgetLateCopies, "a publish is stored once";
    trusting_a_replica_that_was_behind_is_noticed: ForgetCommits,
        "a sequence is never used twice" | "what a failover lost is told";
    a_read_that_proves_nothing_is_noticed: BelieveEveryRead,
        "the tables show as acked what was acked" | "no message is below its channel's first"
        | "everything arrives" | "everything is acked" | "at most" | "recovery"
        | "a message is dropped only by a limit"
        | "a subscription begins where it asked to";
    a_batch_that_is_too_large_for_its_link_is_noticed: UploadAtOnce,
        "no term is lost while nothing goes wrong" | "a ping is answered while nothing goes wrong";
    a_ping_without_an_answer_is_noticed: IgnorePings,
        "a ping is answered while nothing goes wrong";
    a_term_that_takes_no_care_is_noticed: TakeNoCare, "no term is lost twice for one cause";
    acks_that_count_for_nothing_are_noticed: IgnoreAcks, "everything is acked in the end"
        | "everything arrives in the end";
}
