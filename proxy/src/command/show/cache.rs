//! What `cache` prints for people.

use oci::UnixTime;

use super::{Exit, Shown, counted};
use crate::command::answer::{
    AmountTold, CacheAnswer, FreedTold, KeptImage, KeptShown, Listed, MarksTold, NewestForgotten, Pinned, Scrubbed,
    Stats,
};

pub(super) fn tell(answer: &CacheAnswer, shown: &mut Shown) {
    match answer {
        CacheAnswer::Listed(it) => listed(it, shown),
        CacheAnswer::Shown(it) => kept(it, shown),
        CacheAnswer::Freed(it) => freed(it, shown),
        CacheAnswer::Pinned(it) => pinned(it, shown),
        CacheAnswer::NewestForgotten(it) => newest_forgotten(it, shown),
        CacheAnswer::Scrubbed(it) => scrubbed(it, shown),
        CacheAnswer::Stats(it) => stats(it, shown),
    }
    shown.exit = exit(answer);
}

/// How `cache` ends.
pub(super) fn exit(answer: &CacheAnswer) -> Exit {
    match answer {
        CacheAnswer::Scrubbed(it) if !it.unreadable.is_empty() => Exit::No,
        CacheAnswer::Scrubbed(it) if !it.unhealed.is_empty() => Exit::Unanswered,
        CacheAnswer::Listed(_)
        | CacheAnswer::Shown(_)
        | CacheAnswer::Freed(_)
        | CacheAnswer::Pinned(_)
        | CacheAnswer::NewestForgotten(_)
        | CacheAnswer::Scrubbed(_)
        | CacheAnswer::Stats(_) => Exit::Yes,
    }
}

fn listed(listed: &Listed, shown: &mut Shown) {
    if listed.images.is_empty() {
        shown.err("nothing is kept");
        return;
    }
    let head = ["REPOSITORY", "TAGS", "LAYERS", "USED", "", "DIGEST"].map(str::to_owned);
    let rows = listed.images.iter().map(row);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
        let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        shown.out(cells.join("  ").trim_end());
    }
}

fn row(image: &KeptImage) -> [String; 6] {
    let tags = if image.tags.is_empty() { "-".to_owned() } else { image.tags.join(",") };
    let mark = match (image.pinned, image.evidence) {
        (true, _) => "pinned",
        (false, true) => "evidence",
        (false, false) => "",
    };
    [image.repository.to_string(), tags, layers(image), used(image.used_at), mark.to_owned(), image.digest.to_string()]
}

/// What was decided on and never served was never used.
fn used(at: UnixTime) -> String {
    if at.as_millis() == 0 { "never".to_owned() } else { at.to_string() }
}

fn layers(image: &KeptImage) -> String {
    match (image.layer_bytes_kept, image.layer_bytes) {
        (_, 0) => "-".to_owned(),
        (kept, all) if kept >= all => size(all),
        (kept, all) => format!("{} of {}", size(kept), size(all)),
    }
}

fn kept(kept: &KeptShown, shown: &mut Shown) {
    let image = &kept.image;
    shown.out(&format!("{}@{}", image.repository, image.digest));
    if !image.tags.is_empty() {
        shown.out(&format!("  tags: {}", image.tags.join(", ")));
    }
    // Upstream's own words must not steer the terminal.
    shown.out(&format!("  {}, {}", image.media_type.escape_debug(), size(kept.manifest_bytes)));
    shown.out(&format!("  first seen {}, last used {}", kept.first_seen, used(image.used_at)));
    let pinned = if image.pinned { ", pinned" } else { "" };
    let verdicts = usize::try_from(kept.verdicts).unwrap_or(usize::MAX);
    shown.out(&format!("  {} stored{pinned}", counted(verdicts, "verdict", "verdicts")));
    if image.layer_bytes > 0 {
        shown.out(&format!("  layers here: {} of {}", size(image.layer_bytes_kept), size(image.layer_bytes)));
    }
    for part in &kept.parts {
        let mark = if part.kept { "kept" } else { "-" };
        shown.out(&format!("  {:<8}  {mark:<4}  {:>10}  {}", part.kind, size(part.size), part.digest));
    }
}

fn freed(freed: &FreedTold, shown: &mut Shown) {
    for layer in &freed.left_layers {
        shown.out(&format!(
            "layer     {}  of {}@{}, used {}",
            layer.digest,
            layer.repository,
            layer.image,
            used(layer.used_at)
        ));
    }
    for image in &freed.left_images {
        shown.out(&format!("manifest  {}@{}", image.repository, image.digest));
    }
    if let Some(note) = &freed.note {
        shown.err(&format!("note: {note}"));
    }
    let would = if freed.dry_run { "would leave" } else { "left" };
    shown.err(&format!("{} of layers, {} of metadata {would}", amount(freed.layers), amount(freed.metadata)));
}

fn pinned(pinned: &Pinned, shown: &mut Shown) {
    let what = if pinned.stays { "pinned" } else { "not pinned" };
    shown.out(&format!("{}@{}: {what}", pinned.repository, pinned.digest));
}

fn newest_forgotten(it: &NewestForgotten, shown: &mut Shown) {
    let NewestForgotten { repository, tag, newest, .. } = it;
    shown.out(&match newest {
        Some(digest) => format!("{repository}:{tag}: {digest} does not count as its newest any more"),
        None => format!("{repository}:{tag}: nothing counted as its newest"),
    });
}

fn scrubbed(scrubbed: &Scrubbed, shown: &mut Shown) {
    for digest in &scrubbed.healed {
        shown.out(&format!("healed       {digest}"));
    }
    for digest in &scrubbed.not_needed {
        shown.out(&format!("quarantined  {digest}  no admitted image needs it"));
    }
    for unhealed in &scrubbed.unhealed {
        shown.out(&format!("quarantined  {}  {}", unhealed.digest, unhealed.why));
    }
    for why in &scrubbed.unreadable {
        shown.out(&format!("unreadable   {why}"));
    }
    let found = scrubbed.quarantined.len();
    let sound = AmountTold { blobs: scrubbed.sound, bytes: scrubbed.bytes };
    shown.err(&format!("{} read and sound; {found} found rotten, {} healed", amount(sound), scrubbed.healed.len()));
}

fn stats(stats: &Stats, shown: &mut Shown) {
    shown.out(&format!("layers     {}{}", amount(stats.layers), of(stats.layers_budget)));
    shown.out(&format!("metadata   {}{}", amount(stats.metadata), of(stats.metadata_budget)));
    shown.out(&format!("in flight  {}", size(stats.in_flight_bytes)));
    shown.out(&format!("manifests  {}, {} pinned", stats.manifests, stats.pinned));
    if let Some(oldest) = stats.oldest_use {
        shown.out(&format!("oldest use {oldest}"));
    }
}

fn of(budget: Option<MarksTold>) -> String {
    budget.map_or_else(
        || ", no budget".to_owned(),
        |marks| format!(", of {} (from {} down to {})", size(marks.max), size(marks.high), size(marks.low)),
    )
}

fn amount(amount: AmountTold) -> String {
    let blobs = usize::try_from(amount.blobs).unwrap_or(usize::MAX);
    format!("{} ({})", size(amount.bytes), counted(blobs, "blob", "blobs"))
}

/// As a person reads sizes: three digits and a unit.
pub(in crate::command) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or("TiB");
    if tenths < 1000 { format!("{}.{} {unit}", tenths / 10, tenths % 10) } else { format!("{} {unit}", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_people() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1023 KiB"), (1_048_576, "1.0 MiB")];
        for (bytes, want) in
            cases.into_iter().chain([(5 << 30, "5.0 GiB"), (123 << 40, "123 TiB"), (u64::MAX, "1677721 TiB")])
        {
            assert_eq!(size(bytes), want);
        }
    }
}
