//! A slice of each campaign of `soak`. The figures that count are those of the release profile: `soak memory`, `soak corrupt`.

use std::time::Duration;

use support::soak::{
    Bounds, Tally, breaks, corrupt, evidence,
    kills::{self, struck},
    load, manifests, memory, quota, scale,
};

/// Shown by `--nocapture`.
fn say(line: &str) {
    println!("{line}");
}

#[track_caller]
fn is_good(tally: &Tally) {
    assert!(tally.is_good(), "{tally}: {:#?}", tally.failures());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_twenty_points_of_a_pull_it_serves_nothing_half_written_and_the_next_pull_succeeds() {
    let tally = kills::run(Bounds::rounds(20), say).await;
    is_good(&tally);
    assert_eq!(tally.passed(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_calls_that_change_the_store_while_layers_leave_it_serves_every_image_whole() {
    is_good(&struck::run(Bounds::rounds(6), say).await);
}

/// Two sizes a tenfold apart: what grows with the store shows. Times and memory at full size are those of `soak scale`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_many_images_opens_starts_and_is_listed_like_one_of_few() {
    // Other tests run beside it.
    let slack = Duration::from_secs(1);
    is_good(&Box::pin(scale::run(&[100, 1000], false, slack, 1, say)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_clients_of_one_cold_blob_cost_one_upstream_get_and_little_more_memory_than_one() {
    let size = memory::Size { blob_bytes: 64 << 20, clients: 32 };
    is_good(&memory::run(Bounds::rounds(1), size, say).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_manifests_that_a_crowd_pulls_at_one_time_are_bounded_in_memory() {
    let size = manifests::Size { manifests: 40, pulls: 80 };
    is_good(&manifests::run(Bounds::rounds(1), size, say).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_of_one_cold_blob_cost_one_upstream_get_and_little_more_memory_than_one() {
    let size = memory::Size { blob_bytes: 8 << 20, clients: 200 };
    is_good(&memory::run(Bounds::rounds(1), size, say).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_blob_completes_at_no_client_whole_or_in_part_and_is_not_stored() {
    is_good(&corrupt::run(Bounds::rounds(2), 64 << 20, say).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_breaks_every_connection_is_asked_for_the_rest_until_all_is_there() {
    let size = breaks::Size { blob_bytes: 16 << 20, most: 512 << 10 };
    is_good(&breaks::run(Bounds::rounds(2), size, say).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_with_reloads_and_faults_nothing_wrong_is_served_and_nothing_right_refused() {
    is_good(&Box::pin(load::run(Bounds::rounds(2), load::Size::USUAL, say)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_working_set_twice_the_budget_is_served_whole_and_the_budget_holds() {
    is_good(&quota::run(Bounds::rounds(500), say).await);
}

/// The answers and the memory count here; how fast they come depends on the profile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_attestations_and_crowds_of_evidence_are_judged_right_in_bounded_memory() {
    let size = evidence::Size { attestation_bytes: 16 << 20, crowd: 1000, crowd_within: Duration::from_secs(300) };
    is_good(&evidence::run(Bounds::rounds(1), size, say).await);
}
