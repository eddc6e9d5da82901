//! SIGTERM.

use std::time::Duration;

use http::Method;
use support::{
    client::Client,
    process::Process,
    upstream::{Fault, ends_with},
    world::Setup,
};
use tokio::net::TcpStream;

use crate::{REPOSITORY, admin_url, administered, get, signed};

const LAYER_BYTES: usize = 3_000_000;

#[tokio::test]
async fn a_body_under_way_is_drained_to_its_end_and_then_it_exits_with_0() {
    let (world, index) = signed(LAYER_BYTES).await;
    let process = Process::serve(&world.write(&administered())).await.unwrap();
    let (address, admin, url) = (process.address, admin_url(&process), format!("http://{}", process.address));
    assert_eq!(get(&format!("{admin}/readyz")).await.status, 200);
    assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/manifests/latest")).await.status, 200);
    let (layer, bytes) = index.children[0].layers()[0].clone();
    let stalled = world.registry.fault(ends_with(&layer), Fault::Stall(1_000_000));
    assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/manifests/{}", index.children[0].digest)).await.status, 200);
    let mut open =
        Client::plain().open(Method::GET, &format!("{url}/v2/{REPOSITORY}/blobs/{layer}"), &[]).await.unwrap();
    let begun = open.at_least(500_000).await.unwrap();
    // From here on it is only the body that keeps it.
    let meanwhile = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let ready = get(&format!("{admin}/readyz")).await;
        assert_eq!((ready.status.as_u16(), ready.text().as_str()), (503, "not ready: draining\n"));
        assert_eq!(get(&format!("{admin}/healthz")).await.status, 200);
        assert!(get(&format!("{admin}/metrics")).await.text().contains("pratique_served_bytes_total"));
        stalled.release();
        open.whole().await
    };
    let both = async { tokio::join!(process.terminate(), meanwhile) };
    let (ended, rest) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("both end");
    let received = [&begun[..], &rest.body.expect("the body ends well")].concat();
    assert!(received == bytes, "all the right bytes");
    let ended = ended.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.log);
    assert!(ended.log.iter().any(|line| line.contains("stopped")), "{:?}", ended.log);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_cut_off_when_the_time_for_it_is_over_and_it_exits_with_0() {
    let (world, index) = signed(LAYER_BYTES).await;
    let setup = Setup::default().sections("[limits]\ndrain_timeout = \"300ms\"\n");
    let process = Process::serve(&world.write(&setup)).await.unwrap();
    let url = format!("http://{}", process.address);
    assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/manifests/{}", index.children[0].digest)).await.status, 200);
    let layer = index.children[0].layers()[0].0.clone();
    world.registry.fault(ends_with(&layer), Fault::Stall(1_000_000));
    let mut open =
        Client::plain().open(Method::GET, &format!("{url}/v2/{REPOSITORY}/blobs/{layer}"), &[]).await.unwrap();
    open.at_least(500_000).await.unwrap();
    let ended = process.terminate().await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.log);
    assert!(ended.log.iter().any(|line| line.contains("limits.drain_timeout")), "{:?}", ended.log);
    let rest = tokio::time::timeout(Duration::from_secs(10), open.whole()).await.expect("the client hears of it");
    assert!(rest.is_broken(), "and not as a whole answer");
}
