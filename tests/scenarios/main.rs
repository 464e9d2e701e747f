//! Stories about the core: a script of events and the exact outputs, one file per fact. Every file in this
//! folder is a test of its name; `UPDATE=1 cargo test --test scenarios` records the outputs anew, so that a
//! change of behaviour shows as a diff.

#[path = "../support/memory_store.rs"]
mod memory_store;
mod refused;
mod refused_along;
mod requests;
mod script;
mod settled;
mod world;

use std::fmt::Write as _;
use std::path::PathBuf;

use world::World;

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            play(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    a_channel_that_is_used_is_not_deleted
    a_channel_without_subscriptions_and_publishes_is_deleted_after_its_inactivity
    a_channels_first_message_is_what_its_limits_have_left
    a_client_that_answers_a_later_question_is_not_replaced
    a_client_that_answers_again_gets_what_was_held_back
    a_client_that_answers_is_never_closed
    a_client_that_is_closed_by_an_operator_takes_its_subscriptions_along_but_not_its_durables
    a_client_that_misses_too_many_heartbeats_is_closed_and_its_durables_stay
    a_client_that_one_group_knew_and_another_did_not_keeps_its_new_subscription
    a_client_that_was_closed_is_not_brought_back_by_a_takeover
    a_client_whose_answer_may_wait_unread_is_not_replaced
    a_closed_client_takes_its_subscriptions_along_but_not_its_durables
    a_closed_durable_resumes_after_the_last_acked_message
    a_connect_sent_again_by_the_same_connection_is_answered_again
    a_dead_letter_does_not_go_round_for_ever
    a_dry_run_is_refused_like_the_run_itself
    a_durable_group_whose_members_died_goes_on_at_once
    a_durable_queue_group_keeps_its_position_when_it_is_empty
    a_durable_resumed_before_its_answer_gets_nothing_before_the_new_answer
    a_durable_that_is_asked_for_again_replaces_what_its_client_gave_up
    a_durable_that_is_moved_counts_deliveries_anew_and_waits_for_nothing
    a_durable_that_is_moved_goes_on_from_there
    a_failed_read_is_made_again
    a_full_channel_refuses_publishes_where_a_policy_keeps_what_is_in_it
    a_full_member_does_not_stall_its_group
    a_full_member_gets_nothing_more_after_a_takeover
    a_group_keeps_its_place_when_the_member_with_the_newest_message_leaves
    a_guid_that_was_used_before_is_no_repetition_after_a_takeover
    a_hole_in_the_messages_never_stalls_a_subscription
    a_late_ack_counts_whoever_has_the_message_now
    a_lost_commit_reply_ends_the_term_and_the_next_one_reads_the_truth
    a_member_that_nobody_listens_to_leaves_its_group
    a_message_that_an_operator_deletes_is_gone_and_one_that_is_published_again_is_new
    a_message_that_cannot_be_read_is_passed_over
    a_message_that_is_delivered_as_often_as_allowed_is_a_dead_letter_over_takeovers_too
    a_message_that_nats_does_not_deliver_is_passed_over
    a_paused_durable_gets_nothing_until_it_is_resumed
    a_policy_for_others_does_not_let_a_paused_subscription_go_on
    a_preview_of_limits_says_what_they_would_drop
    a_probe_that_ends_each_connection_is_given_up
    a_publish_is_acked_only_after_its_commit
    a_purge_drops_the_oldest_messages_and_keeps_the_others
    a_redelivery_of_hidden_messages_waits_for_them
    a_resumed_durable_forgets_the_failures_of_the_connection_before
    a_resumed_durable_has_the_limits_of_the_new_request
    a_second_connect_is_refused_while_the_first_client_answers
    a_second_subscription_replaces_an_active_durable_on_request
    a_silent_client_is_replaced
    a_stalled_subscription_reads_nothing
    a_start_at_a_time_passes_over_nothing_that_is_hidden
    a_start_position_does_not_move_a_queue_group
    a_subscribe_that_races_with_the_end_of_its_client_is_accepted_or_refused
    a_subscription_does_not_wait_for_poison_that_is_gone
    a_subscription_far_behind_is_served_from_the_store
    a_subscription_has_no_more_in_flight_than_the_server_allows
    a_subscription_over_the_limit_changes_nothing
    a_subscription_pauses_at_its_poison_until_somebody_acks_or_refuses_it
    a_subscription_that_was_closed_gets_nothing_more
    a_subscription_whose_answer_came_in_time_stays_when_nobody_listens
    a_takeover_keeps_a_subscription_paused
    a_takeover_keeps_what_waits_for_a_dead_letter_that_would_go_round_paused
    a_year_that_passes_between_two_messages_loses_nothing
    ages_may_differ_per_channel
    an_ack_during_the_read_of_a_redelivery_prevents_it
    an_ack_of_before_a_durable_was_moved_back_passes_over_nothing_after_a_takeover
    an_early_close_ends_a_subscription_before_its_first_message
    an_end_that_a_dead_active_has_carried_out_is_answered_as_done
    an_operator_empties_a_channel_that_keeps_what_is_not_acked
    an_outage_of_nats_ends_without_a_burst
    an_unacked_message_is_redelivered_after_its_ack_wait
    an_unsubscribe_that_is_asked_for_again_is_answered_once
    an_unsubscribed_durable_is_forgotten
    channels_are_made_limited_and_deleted_by_operators
    channels_of_other_groups_are_not_answered_for
    channels_that_differ_only_in_case_are_refused
    clients_above_the_connect_rate_are_refused
    clients_above_the_limit_are_refused_and_those_that_are_there_stay
    closed_durables_are_not_woken_by_a_takeover
    closing_and_joining_at_once_leaves_one_group
    counters_count_what_came_and_what_went
    crashed_clients_come_back_all_at_once
    dead_clients_of_the_term_before_are_closed
    dead_letters_are_published_again_once_and_what_finds_no_room_is_left
    deleted_messages_count_no_more_and_live_ones_are_kept
    dropped_messages_are_neither_delivered_nor_redelivered
    each_delivery_waits_for_its_ack_as_long_as_its_policy_says
    each_message_has_its_own_ack_wait
    every_start_position_begins_where_the_reference_does
    expired_messages_go_and_sequences_continue
    idle_members_are_served_at_once_after_a_takeover
    limits_of_channels_and_subscriptions_are_enforced
    limits_that_are_reloaded_hold_at_once
    limits_that_were_lowered_hold_from_the_next_term_on
    max_bytes_always_keeps_the_newest_message
    max_in_flight_holds_new_messages_back_until_an_ack
    max_messages_keeps_the_newest
    members_may_have_different_ack_waits
    messages_are_settled_for_a_durable_as_if_they_were_acked
    messages_are_stored_and_delivered_as_they_came
    messages_published_during_a_read_are_not_passed_over
    messages_that_are_only_hidden_are_waited_for
    nothing_is_stored_that_nats_would_never_deliver
    numbers_of_subscriptions_are_never_used_again
    only_the_connection_that_was_asked_is_replaced
    pings_answer_for_the_connection_that_is_registered
    publishes_of_unknown_clients_are_refused
    redelivery_is_counted_per_subscription_and_term
    requests_that_overtake_their_connect_wait_for_it
    rows_without_an_owner_are_dropped_at_a_takeover
    short_waits_of_a_policy_count_after_a_takeover_too
    takeover_continues_clients_durables_and_sequences
    takeover_goes_on_where_subscriptions_were_full
    takeover_loses_no_request_that_the_standby_heard
    takeover_redelivers_what_was_in_flight
    the_last_unsubscribe_removes_a_durable_group
    the_messages_of_a_leaving_queue_member_reach_the_others_at_once
    the_subscription_response_precedes_the_first_message
    two_members_share_the_messages_of_a_queue_group
    unacked_messages_come_first_when_a_durable_resumes
    unresponsive_queue_members_get_nothing_new
    what_a_limit_dropped_does_not_come_back_at_a_takeover
    what_a_member_held_that_is_gone_is_with_others_after_a_takeover
    what_a_read_finds_deleted_counts_no_more_for_the_limit_of_bytes
    what_is_acked_in_sql_leaves_with_the_progress_that_covers_it
    what_is_published_in_sql_leaves_the_outbox_with_its_commit
    what_is_worked_on_at_a_takeover_is_no_dead_letter_before_its_last_wait
    what_waits_for_a_connect_in_vain_is_refused_after_a_second_and_then_at_once
    what_was_acked_before_a_durable_was_moved_back_is_delivered_again_after_a_takeover
    what_was_purged_is_not_counted_by_a_skip
}

#[test]
fn every_file_in_the_folder_is_a_test() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder can be read")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".txt").map(str::to_owned))
        .collect();
    files.sort();
    let missing: Vec<&String> = files
        .iter()
        .filter(|file| !NAMES.contains(&file.as_str()))
        .collect();
    assert!(missing.is_empty(), "these are not in the list: {missing:?}");
    assert!(
        files == NAMES,
        "the list names what is not in the folder, or is not sorted"
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Plays a script and compares: after every line of input stand the outputs that it must cause.
fn play(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let recorded = std::fs::read_to_string(&path).expect("the scenario can be read");
    let mut world = World::default();
    let mut played = String::new();
    for line in recorded.lines().filter(|line| !line.starts_with('>')) {
        writeln!(played, "{line}").expect("a string takes everything");
        let outputs = world
            .play(line)
            .unwrap_or_else(|why| panic!("{name}: {line:?}: {why}"));
        for output in outputs {
            writeln!(played, "> {output}").expect("a string takes everything");
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &played).expect("the scenario can be written");
    } else {
        assert!(
            played == recorded,
            "{name} went differently:\n{}",
            difference(&recorded, &played)
        );
    }
}

/// The lines that differ, with the last one that does not.
fn difference(recorded: &str, played: &str) -> String {
    let (mut old, mut new) = (recorded.lines().peekable(), played.lines().peekable());
    let mut last = "";
    while let (Some(a), Some(b)) = (old.peek(), new.peek())
        && a == b
    {
        last = a;
        old.next();
        new.next();
    }
    let mut text = format!(
        "  {last}
"
    );
    for (mark, line) in old
        .map(|line| ('-', line))
        .take(12)
        .chain(new.map(|line| ('+', line)).take(12))
    {
        writeln!(text, "{mark} {line}").expect("a string takes everything");
    }
    text
}
