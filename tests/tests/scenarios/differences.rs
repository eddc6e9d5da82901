//! What `policy diff` says is what the reload then does: a slice of `soak diff`.

use support::soak::{Bounds, diff};

#[tokio::test]
async fn what_diff_says_is_what_the_reload_does() {
    let tally = Box::pin(diff::run(Bounds::rounds(25), 24, |_| {})).await;
    assert!(tally.is_good(), "{tally}: {}", tally.failures().join("\n"));
}
