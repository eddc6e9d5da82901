//! How much may be held.

/// The marks of one class of content, bytes: `low <= high <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Never more than this, beyond what is on its way in.
    pub max: u64,
    /// Above this the oldest leave,
    pub high: u64,
    /// until no more than this is left.
    pub low: u64,
}

impl Marks {
    /// Marks at so many hundredths of `max`.
    #[must_use]
    pub fn new(max: u64, high_percent: u8, low_percent: u8) -> Self {
        // Hundreds first: a budget below a hundred bytes keeps nothing anyway.
        let part = |percent: u8| (max / 100).saturating_mul(u64::from(percent)).min(max);
        let high = part(high_percent);
        Self { max, high, low: part(low_percent).min(high) }
    }
}

/// What the store may hold; without marks, as much as there is room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Layers of images.
    pub layers: Option<Marks>,
    /// Manifests, configs and evidence.
    pub metadata: Option<Marks>,
}
