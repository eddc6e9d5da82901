//! The configs of an image, for rules that look at them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{Addressed, Descriptor, ManifestKind, Reference, Repository, UntrustedManifest};
use policy::UntrustedConfigs;
use tokio::time::timeout;

use super::{Collector, FETCHES, Nothing, Room};

impl Collector {
    /// The image's config, or those of an index's children: one level, in their order. They are in `room` until that is dropped.
    ///
    /// A child that is an index itself is a flaw: nobody says what the platforms below it are called in a rule's input.
    pub async fn configs(
        &self,
        repository: &Repository,
        manifest: &UntrustedManifest,
        room: &Room,
    ) -> UntrustedConfigs {
        let within = self.limits.evidence_timeout;
        let late = || Err(Nothing::Unasked(format!("longer than {} s", within.as_secs_f32())));
        match timeout(within, self.all_configs(repository, manifest, room)).await.unwrap_or_else(|_| late()) {
            Ok(configs) => UntrustedConfigs::Asked(configs),
            Err(Nothing::Flawed(why)) => UntrustedConfigs::Flawed(why),
            Err(Nothing::Empty) => UntrustedConfigs::Flawed("a manifest of the index is missing upstream".to_owned()),
            Err(Nothing::Unasked(why)) => {
                tracing::debug!(%repository, digest = %manifest.digest(), "configs not collected: {why}");
                UntrustedConfigs::Unasked
            }
        }
    }

    async fn all_configs(
        &self,
        repository: &Repository,
        manifest: &UntrustedManifest,
        room: &Room,
    ) -> Result<Vec<Addressed>, Nothing> {
        let configs = match manifest.kind() {
            ManifestKind::Image { config, .. } => vec![config.clone()],
            ManifestKind::Index { manifests } => {
                if manifests.len() > self.limits.index_manifests_max {
                    let (got, max) = (manifests.len(), self.limits.index_manifests_max);
                    return Err(Nothing::Flawed(format!("{got} manifests in the index, at most {max}")));
                }
                let children: Vec<_> = manifests.iter().map(|child| self.config_of(repository, child)).collect();
                stream::iter(children).buffered(FETCHES).try_collect().await?
            }
        };
        let max = self.limits.manifest_bytes_max;
        if let Some(large) = configs.iter().find(|config| config.size > max) {
            return Err(Nothing::Flawed(format!("a config of {} bytes, at most {max}", large.size)));
        }
        room.take(configs.iter().map(|config| config.size).collect()).await.map_err(Nothing::Unasked)?;
        let fetches: Vec<_> = configs.iter().map(|config| self.blob(repository, config)).collect();
        stream::iter(fetches).buffered(FETCHES).try_collect().await
    }

    async fn config_of(&self, repository: &Repository, child: &Descriptor) -> Result<Descriptor, Nothing> {
        let child = self.manifest(repository, &Reference::Digest(child.digest.clone())).await?;
        match child.kind() {
            ManifestKind::Image { config, .. } => Ok(config.clone()),
            ManifestKind::Index { .. } => Err(Nothing::Flawed("an index within the index has no config".to_owned())),
        }
    }
}
