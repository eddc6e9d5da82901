use std::fs;

use oci::{Addressed, Algorithm};
use storage::{Pass, Scrub, Step};

use crate::{addressed, noise};

/// One walk, in steps of `bytes_max`.
async fn walk(scrub: &mut Scrub, bytes_max: usize) -> (Vec<Step>, Pass) {
    let mut steps = Vec::new();
    loop {
        match scrub.step(bytes_max).await.unwrap() {
            Step::PassEnded(pass) => return (steps, pass),
            step @ (Step::Read(_) | Step::Sound(_) | Step::Quarantined(_)) => steps.push(step),
        }
    }
}

#[tokio::test]
async fn a_scrub_finds_rot_and_only_rot_on_every_walk() {
    let place = super::place();
    let store = place.open();
    let mut contents: Vec<Addressed> = (0..6).map(|seed| addressed(noise(seed, 10_000))).collect();
    contents.push(Addressed::hash(Algorithm::Sha512, noise(6, 10_000)));
    contents.push(addressed(""));
    for content in &contents {
        store.blobs().put(content).await.unwrap();
    }
    let mut scrub = Scrub::new(store.blobs().clone());
    let (steps, pass) = walk(&mut scrub, 3_000).await;
    let want = Pass { sound: 8, quarantined: 0, bytes: 70_000 };
    assert_eq!(pass, want);
    assert!(steps.iter().all(|step| !matches!(step, Step::Read(read) if *read > 3_000)));

    let (flipped, cut) = (contents[2].digest(), contents[6].digest());
    let mut bytes = contents[2].bytes().to_vec();
    bytes[9_999] ^= 0x80;
    fs::write(place.blob(flipped), bytes).unwrap();
    fs::write(place.blob(cut), "cut").unwrap();
    let (steps, pass) = walk(&mut scrub, 1 << 20).await;
    assert_eq!((pass.sound, pass.quarantined), (6, 2));
    for rotten in [flipped, cut] {
        assert!(steps.contains(&Step::Quarantined(rotten.clone())));
        assert!(store.blobs().open(rotten).await.unwrap().is_none());
    }
    let (_, pass) = walk(&mut scrub, 1).await;
    assert_eq!((pass.sound, pass.quarantined), (6, 0));
}

#[tokio::test]
async fn a_scrub_passes_by_what_it_cannot_read() {
    let place = super::place();
    let store = place.open();
    let contents: Vec<Addressed> = (0..3).map(|seed| addressed(noise(seed, 100))).collect();
    for content in &contents {
        store.blobs().put(content).await.unwrap();
    }
    let bad = place.blob(contents[1].digest());
    fs::remove_file(&bad).unwrap();
    fs::create_dir(&bad).unwrap();
    let mut scrub = Scrub::new(store.blobs().clone());
    let (mut errors, mut pass) = (0, None);
    while pass.is_none() {
        match scrub.step(1_000).await {
            Ok(Step::PassEnded(ended)) => pass = Some(ended),
            Ok(_) => {}
            Err(_) => errors += 1,
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(pass.map(|pass| (pass.sound, pass.quarantined)), Some((2, 0)));
}

#[tokio::test]
async fn a_scrub_that_was_interrupted_quarantines_a_blob_cut_short_meanwhile() {
    let place = super::place();
    let store = place.open();
    let content = addressed(noise(1, 10_000));
    store.blobs().put(&content).await.unwrap();
    let mut scrub = Scrub::new(store.blobs().clone());
    assert_eq!(scrub.step(4_000).await.unwrap(), Step::Read(0));
    assert_eq!(scrub.step(4_000).await.unwrap(), Step::Read(4_000));
    let path = place.blob(content.digest());
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5_000).unwrap();
    let step = scrub.step(4_000).await.unwrap();
    assert_eq!(step, Step::Quarantined(content.digest().clone()));
}

#[tokio::test]
async fn what_was_healed_while_a_scrub_read_the_rotten_one_stays() {
    let place = super::place();
    let store = place.open();
    let content = addressed(noise(1, 10_000));
    store.blobs().put(&content).await.unwrap();
    let mut rotten = content.bytes().to_vec();
    rotten[5_000] ^= 1;
    for cut in [false, true] {
        let path = place.blob(content.digest());
        fs::write(&path, &rotten).unwrap();
        let mut scrub = Scrub::new(store.blobs().clone());
        assert_eq!(scrub.step(4_000).await.unwrap(), Step::Read(0));
        assert_eq!(scrub.step(4_000).await.unwrap(), Step::Read(4_000));
        if cut {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5_000).unwrap();
        }
        store.blobs().put(&content).await.unwrap();
        let (steps, pass) = walk(&mut scrub, 10_000).await;
        assert_eq!((steps, pass.quarantined), (vec![Step::Read(0)], 0));
        assert!(store.blobs().verify(content.digest()).await.unwrap());
        assert!(place.names("quarantine").is_empty());
    }
}
