//! Power losses: the store lies on a file system in a file, the writer is killed, and that file is copied as it is at that instant.
//! What had not been synced is not in the copy. The copy is mounted, which replays its journal, and the store on it is looked at.

use std::{
    fs,
    fs::File,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use storage::FactsIn;

use super::{
    Chance, Start,
    ledger::{Acknowledged, Order, Writer, check},
    run,
};

/// Room for the losses in a row, bytes.
const IMAGE_BYTES: u64 = 96 << 20;
/// After so many losses in a row a new file system begins: stores of all ages lose power.
const IN_A_ROW: u64 = 8;

/// A mounted file system that lies in a file.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(image: &Path, at: &Path) -> Result<Self, String> {
        // The journal is written when somebody syncs, and not by the clock: what nobody synced stays out of it.
        run(Command::new("mount").args(["-o", "loop,commit=300"]).args([image, at]))?;
        Ok(Self { at: at.to_owned() })
    }

    fn end(self) -> Result<(), String> {
        let ended = run(Command::new("umount").arg(&self.at));
        std::mem::forget(self);
        ended
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still has a file open there delays it, and nothing else.
        drop(run(Command::new("umount").arg("-l").arg(&self.at)));
    }
}

/// Where losses happen.
pub struct Bench {
    directory: tempfile::TempDir,
    facts: FactsIn,
}

impl Bench {
    /// An error where this machine cannot mount a file: the reason.
    pub fn new(facts: FactsIn) -> Result<Self, String> {
        let bench = Self { directory: tempfile::tempdir().unwrap(), facts };
        fs::create_dir(bench.mountpoint()).unwrap();
        bench.format()?;
        Mounted::new(&bench.image(), &bench.mountpoint())?.end()?;
        Ok(bench)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn mountpoint(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn format(&self) -> Result<(), String> {
        let file = File::create(self.image()).unwrap();
        file.set_len(IMAGE_BYTES).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(self.image()))
    }

    /// Lets the power fail once for each of `rounds`, which begin with 0, and says what was found each time.
    pub fn losses(
        &self,
        start: &Start,
        seed: u64,
        rounds: impl Iterator<Item = u64>,
        mut told: impl FnMut(u64, Result<usize, String>),
    ) {
        let mut acknowledged = Acknowledged::new();
        for round in rounds {
            // Each round has chance of its own, so that any of them can be played again.
            let mut chance = Chance::new(seed.wrapping_mul(1_000_003).wrapping_add(round));
            let fresh = round % IN_A_ROW == 0;
            if fresh {
                acknowledged.clear();
            }
            let outcome = self.loss(start, round, fresh, &mut chance, &mut acknowledged);
            if outcome.is_err() {
                // What was lost stays lost, and is counted once.
                acknowledged.clear();
                drop(self.format());
            }
            told(round, outcome.map(|()| acknowledged.len()));
        }
    }

    fn loss(
        &self,
        start: &Start,
        round: u64,
        fresh: bool,
        chance: &mut Chance,
        acknowledged: &mut Acknowledged,
    ) -> Result<(), String> {
        if fresh {
            self.format()?;
        }
        let mounted = Mounted::new(&self.image(), &self.mountpoint())?;
        fs::set_permissions(&mounted.at, fs::Permissions::from_mode(0o700)).unwrap();
        let store = mounted.at.join("store");
        let order = Order { store, facts: self.facts, round, count: None };
        let mut writer = Writer::start(start(), &order);
        // Some die while they open the store; some after the system has written out what it had.
        writer.wait_for(1 + chance.below(60) * chance.below(2), acknowledged);
        if chance.below(4) == 0 {
            run(Command::new("sync").arg("-f").arg(&mounted.at))?;
            writer.wait_for(chance.below(9), acknowledged);
        }
        for _ in 0..chance.below(400) {
            thread::yield_now();
        }
        writer.kill(acknowledged)?;
        let copy = self.directory.path().join("copy");
        fs::copy(self.image(), &copy).map_err(|error| error.to_string())?;
        mounted.end()?;
        fs::rename(&copy, self.image()).unwrap();
        let mounted = Mounted::new(&self.image(), &self.mountpoint())?;
        let checked = check(&order, acknowledged);
        // A store that was just dropped may hold a file open for a moment longer.
        for _ in 0..1000 {
            if run(Command::new("mountpoint").arg("-q").arg(&mounted.at)).is_err()
                || run(Command::new("umount").arg(&mounted.at)).is_ok()
            {
                break;
            }
            thread::yield_now();
        }
        checked
    }
}
