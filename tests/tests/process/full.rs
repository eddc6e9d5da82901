//! A full disk does not stop pulls: what cannot be kept is verified and streamed all the same.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use futures_util::future::join_all;
use http::Method;
use oci::Digest;
use support::{
    client::{Answer, Client},
    image::Image,
    needs,
    process::Process,
    pull::pull,
    upstream::{Call, Fault, ends_with},
    world::{Setup, World},
};

use crate::{REPOSITORY, admin::Metrics, administered, framing::are_parts, get, signed};

/// Room for facts and manifests, and not for the layer.
const DISK: &str = "10m";
const SIZE: usize = 12_000_000;

/// A small file system where the store will be.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Says at once that a blob is too large for it. `None` where this machine lets nobody mount, and the test is skipped.
    fn small(world: &World) -> Option<Self> {
        Self::mounted(world, Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"]))
    }

    /// Cannot take room beforehand, so that it is full only when it is full.
    fn that_takes_all(world: &World) -> Option<Self> {
        let image = world.directory.path().join("image");
        let made = fs::File::create(&image).and_then(|file| file.set_len(12 << 20));
        made.unwrap();
        if !needs::does(Command::new("mkfs.ext2").args(["-q", "-F"]).arg(&image)) {
            return None;
        }
        let disk = Self::mounted(world, Command::new("mount").args(["-o", "loop"]).arg(&image))?;
        fs::remove_dir(disk.at.join("lost+found")).unwrap();
        Some(disk)
    }

    fn mounted(world: &World, mount: &mut Command) -> Option<Self> {
        let at = world.directory.path().join("store");
        fs::create_dir(&at).unwrap();
        if !needs::does(mount.arg(&at)) {
            return None;
        }
        let disk = Self { at };
        fs::set_permissions(&disk.at, fs::Permissions::from_mode(0o700)).unwrap();
        Some(disk)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = fs::File::create(self.at.join("filler")).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    fn has(&self, digest: &Digest) -> bool {
        self.at.join("blobs/sha256").join(digest.hex()).exists()
    }

    /// What lies there of downloads that have not ended.
    fn ingests(&self) -> usize {
        fs::read_dir(self.at.join("ingest")).unwrap().count()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that still ends has files open there.
        drop(Command::new("umount").arg("-l").arg(&self.at).output());
    }
}

/// A pratique in front of a layer that its disk has no room for.
struct Scene {
    /// Dropped before the disk that it lies on.
    process: Process,
    disk: Disk,
    world: World,
    index: Image,
}

impl Scene {
    async fn with(disk: impl Fn(&World) -> Option<Disk>) -> Option<Self> {
        let (world, index) = signed(SIZE).await;
        let disk = disk(&world)?;
        let setup = Setup { storage: "min_free_bytes = \"1KiB\"".to_owned(), ..administered() };
        let process = Process::serve(&world.write(&setup)).await.unwrap();
        Some(Self { process, disk, world, index })
    }

    /// The same, with the images judged.
    async fn judged(disk: impl Fn(&World) -> Option<Disk>) -> Option<Self> {
        let scene = Self::with(disk).await?;
        for digest in [&scene.index.digest, &scene.index.children[0].digest] {
            assert_eq!(get(&format!("{}/manifests/{digest}", scene.base())).await.status, 200);
        }
        Some(scene)
    }

    fn base(&self) -> String {
        format!("http://{}/v2/{REPOSITORY}", self.process.address)
    }

    fn layer(&self) -> &(Digest, bytes::Bytes) {
        &self.index.children[0].layers()[0]
    }

    fn address(&self) -> String {
        format!("{}/blobs/{}", self.base(), self.layer().0)
    }

    fn of_layer(&self) -> impl Fn(&Call) -> bool + Send + Sync + 'static + use<> {
        ends_with(&self.layer().0)
    }

    /// Which ranges upstream was asked for.
    fn asked(&self) -> Vec<Option<String>> {
        let calls = self.world.registry.calls().into_iter().filter(self.of_layer());
        calls.map(|call| call.range().map(str::to_owned)).collect()
    }

    async fn not_kept(&self) -> f64 {
        Metrics::of(&self.process).await.sum("pratique_fills_total", &["outcome=\"not_kept\""])
    }
}

/// Asks for the whole and for all kinds of parts at once.
async fn whole_and_parts(address: &str) -> Vec<Answer> {
    let client = Client::plain();
    let ranges = ["0-0", "0-99999", "7000000-7999999", "-1", "11900000-", "0-0,5-100000,10000000-10000009"];
    let whole = async { client.get(address, &[]).await.unwrap() };
    let parts = join_all(ranges.map(|range| client.get_range(address, range)));
    let (whole, parts) = tokio::join!(whole, parts);
    [whole].into_iter().chain(parts.into_iter().map(Result::unwrap)).collect()
}

#[tokio::test]
async fn an_image_larger_than_the_disk_is_pulled_whole_again_and_again() {
    let Some(scene) = Scene::with(Disk::small).await else { return };
    let url = format!("http://{}", scene.process.address);
    for round in 1..=2 {
        let pulled = pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
        let want: usize = scene.index.children.iter().map(|child| child.blobs.len()).sum();
        assert_eq!((pulled.manifests.len(), pulled.blobs.len()), (3, want));
        assert!((scene.not_kept().await - f64::from(round)).abs() < f64::EPSILON, "only the one that does not fit");
    }
    let (layer, _) = scene.layer();
    let told = |entry: &serde_json::Value| {
        entry["digest"] == layer.to_string() && entry["message"].as_str().is_some_and(|it| it.contains("not kept"))
    };
    scene.process.logged("that the layer is not kept", told).await.unwrap();
    let (small, _) = &scene.index.children[1].layers()[0];
    assert!(scene.disk.has(small) && !scene.disk.has(layer));
    assert_eq!((scene.asked(), scene.disk.ingests()), (vec![None, None], 0));
}

#[tokio::test]
async fn parts_of_what_cannot_be_kept_are_the_right_ones() {
    let Some(scene) = Scene::judged(Disk::small).await else { return };
    let (_, bytes) = scene.layer();
    let answers = whole_and_parts(&scene.address()).await;
    let [whole, parts @ .., several] = answers.as_slice() else { panic!("seven answers") };
    assert!(whole.status == 200 && whole.received() == bytes, "{}", whole.status);
    let wanted = [0..1, 0..100_000, 7_000_000..8_000_000, SIZE - 1..SIZE, 11_900_000..SIZE];
    for (part, range) in parts.iter().zip(wanted) {
        assert_eq!(part.status, 206);
        assert!(!part.is_broken() && part.received() == &bytes.slice(range.clone()), "{range:?}");
    }
    assert!(several.status == 206 && !several.is_broken(), "{}", several.status);
    let kind = several.header("content-type").unwrap();
    are_parts(kind, several.received(), &[0..1, 5..100_001, 10_000_000..10_000_010], bytes);
}

#[tokio::test]
async fn what_is_wrong_completes_at_no_client_where_it_cannot_be_kept_either() {
    let Some(scene) = Scene::judged(Disk::small).await else { return };
    for at in [0, 6_000_000, SIZE as u64 - 1] {
        scene.world.registry.fault(scene.of_layer(), Fault::Corrupt(at));
        for (number, answer) in whole_and_parts(&scene.address()).await.iter().enumerate() {
            let complete = answer.status.is_success() && !answer.is_broken();
            assert!(!complete, "byte {at}, answer {number}: {} completed", answer.status);
        }
        scene.world.registry.clear_faults();
    }
    let metrics = Metrics::of(&scene.process).await;
    assert!(metrics.sum("pratique_content_mismatches_total", &["what=\"blob\""]) >= 21.0);
    let drained = Client::plain().open(Method::GET, &scene.address(), &[]).await.unwrap().drain().await;
    assert!(drained.complete && drained.digest == scene.layer().0, "{drained:?}");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_asked_for_the_rest_of_what_cannot_be_kept() {
    let Some(scene) = Scene::judged(Disk::small).await else { return };
    // Asked for the rest it sends that, or all of it again, or again and with another beginning.
    for (ignores, tampers, passes) in [(false, false, true), (true, false, true), (true, true, false)] {
        scene.world.registry.clear_calls();
        scene.world.registry.fault(scene.of_layer(), Fault::Truncate(9_000_000)).times(1);
        if ignores {
            scene.world.registry.fault(scene.of_layer(), Fault::IgnoreRange);
        }
        if tampers {
            scene.world.registry.fault(scene.of_layer(), Fault::Corrupt(5)).after(1);
        }
        let drained = Client::plain().open(Method::GET, &scene.address(), &[]).await.unwrap().drain().await;
        assert_eq!(drained.complete, passes, "{ignores} {tampers}");
        assert!(!passes || drained.digest == scene.layer().0);
        assert_eq!(scene.asked(), [None, Some("bytes=9000000-".to_owned())]);
        scene.world.registry.clear_faults();
    }
}

#[tokio::test]
async fn a_repository_that_refuses_what_cannot_be_kept_is_left_for_another_in_which_it_is_permitted() {
    const OTHER: &str = "chainguard/other";
    for cut in [None, Some(5_000_000)] {
        let Some(scene) = Scene::judged(Disk::small).await else { return };
        scene.world.push_signed(OTHER, "latest", &scene.index);
        for digest in [&scene.index.digest, &scene.index.children[0].digest] {
            let url = format!("http://{}/v2/{OTHER}/manifests/{digest}", scene.process.address);
            assert_eq!(get(&url).await.status, 200);
        }
        let here = format!("/v2/{REPOSITORY}/blobs/{}", scene.layer().0);
        let of_here = move |call: &Call| call.path == here;
        if let Some(cut) = cut {
            scene.world.registry.fault(of_here.clone(), Fault::Truncate(cut)).times(1);
        }
        scene.world.registry.fault(of_here, Fault::status(404)).after(cut.iter().count());
        let drained = Client::plain().open(Method::GET, &scene.address(), &[]).await.unwrap().drain().await;
        assert!(drained.complete && drained.digest == scene.layer().0, "{cut:?}: {drained:?}");
        let rest = cut.map(|cut| format!("bytes={cut}-"));
        assert_eq!(scene.asked().last(), Some(&rest), "the other one, for what was left");
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_breaks_who_is_there_and_the_next_request_is_streamed() {
    let Some(scene) = Scene::judged(Disk::that_takes_all).await else { return };
    let (client, address) = (Client::plain(), scene.address());
    let early = join_all((0..4).map(|_| client.open(Method::GET, &address, &[]))).await;
    for open in early {
        let open = open.unwrap();
        // Who came too late for the one download has one of its own.
        let (status, drained) = (open.status, open.drain().await);
        let right = drained.complete && drained.digest == scene.layer().0;
        assert!(status == 200 && (right || !drained.complete), "{status} {drained:?}");
    }
    for _ in 0..2 {
        let drained = Client::plain().open(Method::GET, &scene.address(), &[]).await.unwrap().drain().await;
        assert_eq!((drained.complete, drained.length, &drained.digest), (true, SIZE as u64, &scene.layer().0));
    }
    let full = |entry: &serde_json::Value| entry["message"].as_str().is_some_and(|it| it.contains("the store is full"));
    scene.process.logged("that the store is full", full).await.unwrap();
    assert!(scene.not_kept().await >= 2.0);
    assert_eq!(
        (scene.disk.ingests(), scene.disk.has(&scene.layer().0)),
        (0, false),
        "nothing stays of what did not fit"
    );
}

#[tokio::test]
async fn a_disk_without_any_room_is_not_noticed_by_who_pulls_what_was_judged_before() {
    let disks: [fn(&World) -> Option<Disk>; 2] = [Disk::small, Disk::that_takes_all];
    for disk in disks {
        let Some(scene) = Scene::judged(disk).await else { return };
        scene.disk.fill();
        let small = scene.index.children[0].config().unwrap();
        for (digest, bytes) in [scene.layer(), small] {
            let answer = get(&format!("{}/blobs/{digest}", scene.base())).await;
            assert!(answer.status == 200 && answer.received() == bytes, "{}: {}", answer.status, answer.is_broken());
        }
        assert!(scene.not_kept().await >= 2.0);
    }
}

#[tokio::test]
async fn what_images_are_judged_by_is_kept_where_layers_would_leave_too_little_for_it() {
    let (world, index) = signed(100_000).await;
    let Some(disk) = Disk::small(&world) else { return };
    let setup = Setup { storage: "min_free_bytes = \"10MiB\"".to_owned(), ..administered() };
    let process = Process::serve(&world.write(&setup)).await.unwrap();
    let url = format!("http://{}", process.address);
    let pulled = pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    let not_kept = Metrics::of(&process).await.sum("pratique_fills_total", &["outcome=\"not_kept\""]);
    assert!((pulled.blobs.len(), not_kept.round()) == (4, 4.0), "{not_kept}");
    assert!(pulled.blobs.iter().all(|(digest, _)| !disk.has(digest)));
    // Nothing has to be asked again about what was judged.
    world.registry.fault(|_| true, Fault::status(503));
    let process = process.restart().await.unwrap();
    for (digest, bytes) in &pulled.manifests {
        let answer = get(&format!("http://{}/v2/{REPOSITORY}/manifests/{digest}", process.address)).await;
        assert!(answer.status == 200 && answer.received() == bytes, "{}", answer.status);
    }
    assert_eq!(index.digest, pulled.manifests[0].0);
}
