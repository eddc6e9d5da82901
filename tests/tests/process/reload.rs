//! SIGHUP.

use support::{client::Client, process::Process, pull::pull, sigstore::Signer, world::Setup};

use crate::{REPOSITORY, admin_url, administered, get, policy_for, signed, unreadable_policy};

#[tokio::test]
async fn a_reload_with_a_policy_that_does_not_load_keeps_the_last_good_one_and_says_where() {
    let (world, index) = signed(1000).await;
    let good = Setup {
        policies: vec![("policy.yaml".to_owned(), policy_for("good", &Signer::chainguard()))],
        ..administered()
    };
    let process = Process::serve(&world.write(&good)).await.unwrap();
    let url = format!("http://{}", process.address);
    pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    for (text, wanted) in [(unreadable_policy(), "policy.yaml:13"), (String::new(), "policy.yaml")] {
        let bad = Setup { policies: vec![("policy.yaml".to_owned(), text)], ..administered() };
        world.write(&bad);
        let told = process.reload().await.expect_err("a policy that cannot be read is refused");
        assert!(told.contains("what was in force stays") && told.contains(wanted), "{told}");
        let line = process.logged("the same at error", |entry| entry["message"] == told.as_str()).await.unwrap();
        assert_eq!(line["level"], "ERROR");
        pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    }
    // A file that is gone is no empty policy.
    std::fs::remove_file(world.directory.path().join("policy.yaml")).unwrap();
    assert!(process.reload().await.unwrap_err().contains("policy.yaml"));
    let manifest = format!("{url}/v2/{REPOSITORY}/manifests/{}", index.digest);
    assert_eq!(get(&manifest).await.status, 200);
    assert_eq!(get(&format!("{url}/v2/elsewhere/nginx/manifests/latest")).await.status, 403);
    let metrics = get(&format!("{}/metrics", admin_url(&process))).await.text();
    assert!(metrics.contains("pratique_reloads_total{outcome=\"failed\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_reload_with_another_policy_holds_for_the_next_request_and_back() {
    let (world, index) = signed(1000).await;
    let for_signer = |signer: &Signer| Setup::with_policy(&policy_for("signed-by", signer));
    let (chainguard, fork) = (for_signer(&Signer::chainguard()), for_signer(&Signer::fork()));
    let process = Process::serve(&world.write(&chainguard)).await.unwrap();
    let (client, url) = (Client::plain(), format!("http://{}", process.address));
    pull(&client, &url, REPOSITORY, "latest").await.unwrap();
    let child = &index.children[0];
    let paths = [
        "manifests/latest".to_owned(),
        format!("manifests/{}", index.digest),
        format!("manifests/{}", child.digest),
        format!("blobs/{}", child.layers()[0].0),
    ];
    for (setup, wanted) in [(&fork, 403), (&chainguard, 200), (&fork, 403), (&chainguard, 200)] {
        world.write(setup);
        process.reload().await.unwrap();
        for path in &paths {
            let answer = get(&format!("{url}/v2/{REPOSITORY}/{path}")).await;
            assert_eq!(answer.status, wanted, "{path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_reload_that_weakens_something_says_so() {
    let (world, _) = signed(1000).await;
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    world.write(&Setup { policy: "no_match = \"allow\"".to_owned(), ..administered() });
    process.reload().await.unwrap();
    let is_told = |entry: &serde_json::Value| {
        entry["message"].as_str().is_some_and(|line| line.starts_with("weakened: policy.no_match = \"allow\""))
    };
    process.logged("that images go unverified now", is_told).await.unwrap();
}
