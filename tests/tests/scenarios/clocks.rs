//! A clock that steps back a year, or forward ten, under a running pratique or while it does not run: docs/operations.md, "Clocks".

use std::sync::atomic::Ordering;

use support::world::Setup;

use crate::{
    get,
    guards::{DAY, NOW, Stage, document, led_to, policy, warnings},
    sized,
};

const A_YEAR_BACK: u64 = NOW - 365 * DAY;
const TEN_YEARS_ON: u64 = NOW + 3653 * DAY;

/// Sets the clock, with or without a restart in between.
async fn at(stage: Stage, now: u64, restart: Option<&Setup>) -> Stage {
    match restart {
        None => {
            stage.time.store(now * 1000, Ordering::SeqCst);
            stage
        }
        Some(setup) => {
            let time = std::sync::Arc::clone(&stage.time);
            Box::pin(stage.restarted_after(setup, |_| time.store(now * 1000, Ordering::SeqCst))).await
        }
    }
}

#[tokio::test]
async fn signed_times_decide_and_floors_stay_wherever_the_clock_steps() {
    let setup = Setup::with_policy(&policy("own", "enforce", &["rollback: deny", "max-age: 500d"]));
    for restart in [None, Some(&setup)] {
        let mut stage = Stage::with(&setup).await;
        // Before the year that the clock steps back over, and within it.
        let (old, new) = (sized(10, 1), sized(10, 2));
        for (image, days_ago) in [(&old, 420), (&new, 10)] {
            stage.lead(image, days_ago);
            assert_eq!(led_to(&stage.ask().await), image.digest.to_string());
        }
        let floor = stage.served().newest;
        assert_eq!(floor.as_ref().map(|(digest, _)| digest), Some(&new.digest));
        for (now, image, by_tag, by_digest) in [
            // Nobody can have signed it yet.
            (A_YEAR_BACK, &new, Some("time-missing"), Some("time-missing")),
            (A_YEAR_BACK + 3600, &old, Some("rolled-back"), None),
            // Its certificate ended ten years ago, and it was signed before.
            (TEN_YEARS_ON, &new, Some("frozen"), None),
            (TEN_YEARS_ON + 3600, &old, Some("rolled-back"), None),
            // And right again: nothing that was concluded meanwhile stands in the way.
            (NOW + 3600, &new, None, None),
            (NOW + 7200, &old, Some("rolled-back"), None),
        ] {
            image.push(&stage.world.registry, "chainguard/nginx", Some("latest"));
            stage = at(stage, now, restart).await;
            let digest = get(&stage.url(&image.digest.to_string())).await;
            for (answer, expected, how) in [
                (digest, by_digest, "by digest"),
                (stage.ask().await, by_tag, "by tag"),
                (get(&stage.url("latest")).await, by_tag, "again"),
            ] {
                let reason = (answer.status != 200).then(|| document(&answer)["errors"][0]["detail"]["reason"].clone());
                let told = reason.as_ref().map(|reason| reason.as_str().unwrap_or_default());
                assert_eq!(told, expected, "{how} at {now}, restart: {}: {}", restart.is_some(), answer.text());
                assert_eq!(warnings(&answer), "", "{how} at {now}");
            }
            assert_eq!(stage.served().newest, floor, "at {now}");
        }
    }
}

#[tokio::test]
async fn a_no_of_the_future_has_ended_and_so_has_one_of_ten_years_ago() {
    let setup = Setup::with_policy(&policy("own", "enforce", &[])).sections("[verdicts]\nabsent_ttl = \"1h\"\n");
    for restart in [None, Some(&setup)] {
        for now in [A_YEAR_BACK, TEN_YEARS_ON] {
            let mut stage = Stage::with(&setup).await;
            let unsigned = sized(10, 1);
            unsigned.push(&stage.world.registry, "chainguard/nginx", None);
            let url = |stage: &Stage| stage.url(&unsigned.digest.to_string());
            assert_eq!(get(&url(&stage)).await.status, 403);
            stage.world.registry.clear_calls();
            assert_eq!(get(&url(&stage)).await.status, 403);
            assert_eq!(stage.world.registry.count(|_| true), 0, "it is remembered");
            stage = at(stage, now, restart).await;
            assert_eq!(get(&url(&stage)).await.status, 403);
            assert!(stage.world.registry.count(|_| true) > 0, "at {now} it is asked for anew");
        }
    }
}
