//! One search through all that places list, in an order that lets it end early, and within bounds whatever they list.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    sync::Arc,
};

use futures_util::{StreamExt as _, future::join_all, stream};
use oci::{Digest, Repository};
use policy::{Origin, UntrustedPiece, Worth};
use tokio::time::{Instant, timeout_at};

use super::{
    Collected, Collector, FETCHES, Nothing, Place, Room, Sieve,
    candidate::{Carrier, Layer, Layers, Listed},
    place::{Offer, unsigned},
};

/// Pieces that no authority takes are kept for the words of a refusal, those that came closest.
const USELESS_KEPT_MAX: usize = 16;

/// How much one search fetches and drops again, as a multiple of the room there is.
const DROPPED_MAX: u64 = 4;

/// Why a search ended early.
const ENOUGH: &str = "not all was looked at, as what was found suffices";

/// A search about one subject.
pub(super) struct Search<'a> {
    collector: &'a Collector,
    repository: &'a Repository,
    subject: &'a Digest,
    sieve: &'a Sieve,
    room: &'a Room,
    places: BTreeMap<Origin, Place>,
    /// Not opened yet; the next one last.
    listed: Vec<Listed>,
    /// Not fetched yet; the next one last.
    layers: Vec<Layer>,
    kept: Vec<Kept>,
    /// How many layers came out of referrers.
    opened: usize,
    /// The bytes of opened manifests with large layers.
    waiting: u64,
    /// Something came that the sieve was not asked about.
    is_news: bool,
    /// Bytes that were in the room before the search.
    before: u64,
    /// Bytes of pieces that were fetched and dropped.
    dropped: u64,
}

struct Kept {
    piece: UntrustedPiece,
    carrier: Arc<Carrier>,
    /// Known only where there are many.
    worth: Option<Worth>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        collector: &'a Collector,
        (repository, subject): (&'a Repository, &'a Digest),
        sieve: &'a Sieve,
        room: &'a Room,
    ) -> Self {
        Self {
            collector,
            repository,
            subject,
            sieve,
            room,
            places: BTreeMap::new(),
            listed: Vec::new(),
            layers: Vec::new(),
            kept: Vec::new(),
            opened: 0,
            waiting: 0,
            is_news: false,
            before: 0,
            dropped: 0,
        }
    }

    pub(super) async fn run(mut self, origins: &BTreeSet<Origin>) -> Collected {
        let deadline = Instant::now() + self.collector.limits.evidence_timeout;
        self.before = self.room.held().await;
        self.places = origins.iter().map(|origin| (origin.clone(), Place::new(origin.clone()))).collect();
        let Ok(ended) = timeout_at(deadline, self.look(origins)).await else {
            let seconds = self.collector.limits.evidence_timeout.as_secs_f32();
            // What was under way is lost: nobody can say which places it was from.
            let why = format!("collecting took longer than {seconds} s (limits.evidence_timeout)");
            self.places.values_mut().for_each(|place| place.cut(why.clone()));
            return self.collected();
        };
        if let Err(why) = ended {
            let left = self.listed.iter().map(|listed| &listed.origin);
            let left: BTreeSet<_> =
                left.chain(self.layers.iter().map(|layer| &layer.carrier.origin)).cloned().collect();
            for origin in left {
                self.place(&origin).cut(why.clone());
            }
        }
        self.collected()
    }

    /// Asks, opens and fetches until nothing is left, or it is said why what is left need not or must not be looked at.
    async fn look(&mut self, origins: &BTreeSet<Origin>) -> Result<(), String> {
        let (collector, repository, subject) = (self.collector, self.repository, self.subject);
        let asks: Vec<_> = origins.iter().map(|origin| collector.ask(repository, subject, origin)).collect();
        for (origin, offer) in origins.iter().zip(join_all(asks).await) {
            self.take(origin, offer);
        }
        self.order();
        loop {
            self.open().await;
            let batch = self.batch();
            let Some(first) = batch.first() else { return Ok(()) };
            let must_end = (first.is_heavy() || self.is_crowded()) && self.suffices().await;
            if must_end {
                self.layers.extend(batch);
                return Err(ENOUGH.to_owned());
            }
            self.fetch(batch).await?;
            if self.is_crowded() {
                self.sift(USELESS_KEPT_MAX).await?;
            }
        }
    }

    /// What one place has to offer, without what another listed already.
    fn take(&mut self, origin: &Origin, offer: Offer) {
        let known: HashSet<&Digest> = self.listed.iter().map(|listed| &listed.digest).collect();
        let new: Vec<_> = offer.listed.into_iter().filter(|listed| !known.contains(&listed.digest)).collect();
        self.listed.extend(new);
        self.layers.extend(offer.layers);
        let place = self.place(origin);
        offer.flawed.into_iter().for_each(|why| place.note(Nothing::Flawed(why)));
        offer.cut.into_iter().for_each(|why| place.note(Nothing::Unasked(why)));
    }

    /// Opens referrers while there are not enough small layers for a batch.
    async fn open(&mut self) {
        let count_max = self.collector.limits.evidence_count_max;
        while !self.listed.is_empty()
            && self.layers.iter().rev().take_while(|layer| !layer.is_heavy()).count() < count_max
        {
            let batch = self.listed.split_off(self.listed.len().saturating_sub(count_max));
            let (collector, repository, subject) = (self.collector, self.repository, self.subject);
            let opens: Vec<_> = batch.iter().rev().map(|listed| collector.open(repository, subject, listed)).collect();
            let opened: Vec<_> = stream::iter(opens).buffered(FETCHES).collect().await;
            for (listed, layers) in batch.iter().rev().zip(opened) {
                match layers {
                    Ok(layers) => {
                        if let Some(why) = unsigned(layers.unsigned) {
                            self.place(&listed.origin).note(Nothing::Flawed(why));
                        }
                        self.opened += layers.found.len();
                        if self.opened > self.most_layers() {
                            let why = format!("more than {} layers in its referrers", self.most_layers());
                            self.place(&listed.origin).cut(why);
                        } else {
                            self.enqueue(&listed.origin, layers);
                        }
                    }
                    Err(nothing) => self.place(&listed.origin).note(nothing),
                }
            }
            self.order();
        }
    }

    /// Lets the layers wait for their turn; large ones only within bounds, as all referrers may be opened before it comes.
    fn enqueue(&mut self, origin: &Origin, layers: Layers) {
        let max = self.collector.limits.referrers_waiting_bytes_max;
        self.waiting = self.waiting.saturating_add(layers.waiting_bytes().unwrap_or(0));
        if layers.waiting_bytes().is_none() || self.waiting <= max {
            self.layers.extend(layers.found);
            return;
        }
        let why = format!(
            "more than {max} bytes of manifests with large layers in its referrers (limits.referrers_waiting_bytes_max)"
        );
        self.place(origin).cut(why);
        self.layers.extend(layers.found.into_iter().filter(|layer| !layer.is_heavy()));
    }

    /// Each referrer has one layer, but for cosign's experiments.
    fn most_layers(&self) -> usize {
        self.collector.limits.referrers_count_max.saturating_add(self.collector.limits.signature_layers_max)
    }

    /// The next layers to fetch: as many small ones as are kept at most, or one large one.
    fn batch(&mut self) -> Vec<Layer> {
        let count = match self.layers.last() {
            Some(next) if next.is_heavy() => 1,
            _ => self.layers.iter().rev().take_while(|layer| !layer.is_heavy()).count(),
        };
        let count = count.min(self.collector.limits.evidence_count_max);
        let mut batch = self.layers.split_off(self.layers.len().saturating_sub(count));
        batch.reverse();
        batch
    }

    /// Fetches what is within the limits, and makes room for it by dropping what nobody takes.
    async fn fetch(&mut self, batch: Vec<Layer>) -> Result<(), String> {
        let batch = self.within_limits(batch);
        let sizes: Vec<_> = batch.iter().map(|layer| layer.descriptor().size).collect();
        if !self.room.fits(&sizes).await
            && let Err(why) = self.sift(0).await
        {
            self.layers.extend(batch);
            return Err(why);
        }
        if let Err(why) = self.room.take(sizes).await {
            for layer in &batch {
                self.place(&layer.carrier.origin).cut(why.clone());
            }
            return Ok(());
        }
        let collector = self.collector;
        let fetches: Vec<_> =
            batch.iter().map(|layer| collector.blob(&layer.carrier.repository, layer.descriptor())).collect();
        let arrived: Vec<_> = stream::iter(fetches).buffered(FETCHES).collect().await;
        for (layer, bytes) in batch.into_iter().zip(arrived) {
            match bytes {
                Ok(bytes) => {
                    let (piece, carrier) = (layer.piece(bytes), layer.carrier);
                    self.kept.push(Kept { piece, carrier, worth: None });
                    self.is_news = true;
                }
                Err(nothing) => self.place(&layer.carrier.origin).note(nothing),
            }
        }
        Ok(())
    }

    fn within_limits(&mut self, batch: Vec<Layer>) -> Vec<Layer> {
        let limits = Arc::clone(&self.collector.limits);
        let (fitting, larger): (Vec<_>, Vec<_>) = batch.into_iter().partition(|layer| {
            let max = if layer.may_attest() { limits.attestation_bytes_max } else { limits.evidence_bytes_max };
            layer.descriptor().size <= max
        });
        for layer in larger {
            let (key, max) = if layer.may_attest() {
                ("attestation_bytes_max", limits.attestation_bytes_max)
            } else {
                ("evidence_bytes_max", limits.evidence_bytes_max)
            };
            let size = layer.descriptor().size;
            let why = format!("a piece of {size} bytes is larger than limits.{key} ({max})");
            self.place(&layer.carrier.origin).note(Nothing::Flawed(why));
        }
        fitting
    }

    /// Whether there is more than is kept.
    fn is_crowded(&self) -> bool {
        self.kept.len() + self.layers.len() + self.listed.len() > self.collector.limits.evidence_count_max
    }

    async fn suffices(&mut self) -> bool {
        let could = self.kept.iter().any(|kept| !matches!(kept.worth, Some(Worth::Nothing(_))));
        if !mem::take(&mut self.is_news) || !could {
            return false;
        }
        let pieces = self.kept.iter().map(|kept| kept.piece.clone()).collect();
        self.sieve.suffice(pieces, self.places.keys().cloned().collect()).await
    }

    /// Drops what no authority takes, but for so many pieces that came closest.
    async fn sift(&mut self, useless_max: usize) -> Result<(), String> {
        let (mut sifted, new): (Vec<_>, Vec<_>) =
            mem::take(&mut self.kept).into_iter().partition(|kept| kept.worth.is_some());
        // On what the judge fails, nobody can say what it is worth.
        let worths = self.sieve.worths(new.iter().map(|kept| kept.piece.clone()).collect()).await;
        let worths = worths.unwrap_or_else(|_| vec![Worth::Something; new.len()]);
        self.is_news = worths.contains(&Worth::Something);
        sifted.extend(new.into_iter().zip(worths).map(|(kept, worth)| Kept { worth: Some(worth), ..kept }));
        sifted.sort_by_key(|kept| std::cmp::Reverse(kept.worth));
        let useful = sifted.iter().filter(|kept| kept.worth == Some(Worth::Something)).count();
        let dropped = sifted.split_off(sifted.len().min(useful + useless_max));
        self.kept = sifted;
        for Kept { piece, .. } in dropped {
            self.dropped = self.dropped.saturating_add(piece.bytes.bytes().len() as u64);
            let why = || {
                "pieces that no authority took were not kept (limits.evidence_count_max, limits.evidence_memory_bytes_max)"
                    .to_owned()
            };
            self.place(&piece.origin).partly.get_or_insert_with(why);
        }
        let kept: u64 = self.kept.iter().map(|kept| kept.piece.bytes.bytes().len() as u64).sum();
        self.room.keep(self.before.saturating_add(kept)).await;
        let dropped_max = self.collector.limits.evidence_memory_bytes_max.saturating_mul(DROPPED_MAX);
        if self.dropped > dropped_max {
            let why = "bytes of pieces that no authority takes (4 times limits.evidence_memory_bytes_max)";
            return Err(format!("more than {dropped_max} {why}"));
        }
        let max = self.collector.limits.evidence_count_max;
        if useful <= max {
            return Ok(());
        }
        if self.suffices().await {
            return Err(ENOUGH.to_owned());
        }
        Err(format!("more than {max} pieces that count, and more is there (limits.evidence_count_max)"))
    }

    fn order(&mut self) {
        self.listed.sort_by(|a, b| b.order().cmp(&a.order()));
        self.layers.sort_by(|a, b| b.in_order(a));
    }

    fn place(&mut self, origin: &Origin) -> &mut Place {
        self.places.entry(origin.clone()).or_insert_with(|| Place::new(origin.clone()))
    }

    fn collected(self) -> Collected {
        let mut manifests = Vec::new();
        let mut carriers: BTreeMap<&Digest, (&Arc<Carrier>, BTreeSet<&Digest>)> = BTreeMap::new();
        for kept in &self.kept {
            let entry = carriers.entry(kept.carrier.manifest.digest());
            entry.or_insert_with(|| (&kept.carrier, BTreeSet::new())).1.insert(kept.piece.digest());
        }
        for (carrier, pieces) in carriers.into_values() {
            // Without all its layers nobody could be given the manifest either.
            let layers = carrier.manifest.points_at().skip(1).map(|layer| &layer.digest);
            if carrier.origin.location.is_beside() && layers.collect::<BTreeSet<_>>() == pieces {
                manifests.push((carrier.manifest.clone(), carrier.tag.clone()));
            }
        }
        Collected {
            places: self.places.into_values().collect(),
            pieces: self.kept.into_iter().map(|kept| kept.piece).collect(),
            manifests,
            ..Collected::default()
        }
    }
}
