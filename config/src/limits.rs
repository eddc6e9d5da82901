//! A limit on everything that comes from outside, each with its default.

use std::time::Duration;

use serde::Deserialize;

use crate::{ConfigError, notes::Notes, sources::Sources, units};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `[limits]`. None can be zero; `…_bytes_max` are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest manifest or index. Default 4 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub manifest_bytes_max: u64,
    /// Largest blob. Default 64 GiB.
    #[serde(deserialize_with = "units::bytes")]
    pub blob_bytes_max: u64,
    /// Largest attestation or bundle. Default 128 MiB: software bills of materials grow large.
    #[serde(deserialize_with = "units::bytes")]
    pub attestation_bytes_max: u64,
    /// Largest piece of other evidence. Default 128 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub evidence_bytes_max: u64,
    /// Evidence of one image held in memory at one time, as it was fetched. Images that need much are judged one at a time; all
    /// others together hold a quarter of it at most, with what their judgements need to work on it. Default 512 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub evidence_memory_bytes_max: u64,
    /// Pieces of evidence of one digest that are kept and judged together. Where there are more, they are looked at as they come and
    /// those that no authority takes are dropped. Default 64.
    #[serde(deserialize_with = "units::count")]
    pub evidence_count_max: usize,
    /// One collection of the evidence of one digest; what was not looked at by then could not be asked. Default 10m.
    #[serde(deserialize_with = "units::positive_duration")]
    pub evidence_timeout: Duration,
    /// One evaluation of one content rule. Default 5s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub rego_timeout: Duration,
    /// Largest JSON document that a content rule is given; as values it takes several times as much memory. Default 128 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub rego_input_bytes_max: u64,
    /// Layers of one signature or attestation manifest. Default 16384.
    #[serde(deserialize_with = "units::count")]
    pub signature_layers_max: usize,
    /// Referrers of one digest. Default 16384.
    #[serde(deserialize_with = "units::count")]
    pub referrers_count_max: usize,
    /// Pages of one referrers list. Default 256.
    #[serde(deserialize_with = "units::count")]
    pub referrers_pages_max: usize,
    /// Largest manifest of a referrer that is evidence: one with one bundle has about a kilobyte. Default 256 KiB.
    #[serde(deserialize_with = "units::bytes")]
    pub referrer_bytes_max: u64,
    /// Manifests of referrers of one digest that wait in memory, because their layers are large and smaller ones are looked at first.
    /// Default 16 MiB, of some thousands.
    #[serde(deserialize_with = "units::bytes")]
    pub referrers_waiting_bytes_max: u64,
    /// Manifests named by one index. Default 1000.
    #[serde(deserialize_with = "units::count")]
    pub index_manifests_max: usize,
    /// Indexes within indexes. Default 4.
    #[serde(deserialize_with = "units::count")]
    pub index_depth_max: usize,
    /// Layers of one image. Default 4096.
    #[serde(deserialize_with = "units::count")]
    pub manifest_layers_max: usize,
    /// Values within values of one JSON document. Default 64.
    #[serde(deserialize_with = "units::count")]
    pub json_depth_max: usize,
    /// Largest list of tags, one page. Default 8 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub tags_list_bytes_max: u64,
    /// Largest answer of a token endpoint. Default 64 KiB.
    #[serde(deserialize_with = "units::bytes")]
    pub token_bytes_max: u64,
    /// All headers of one upstream answer. Default 64 KiB.
    #[serde(deserialize_with = "units::bytes")]
    pub upstream_header_bytes_max: u64,
    /// Redirects followed for one upstream request. Default 5.
    #[serde(deserialize_with = "units::count")]
    pub redirects_max: usize,
    /// Upstream connection, TLS included. Default 5s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub connect_timeout: Duration,
    /// From an upstream request to the head of its answer. Default 10s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub upstream_response_timeout: Duration,
    /// Longest pause within an upstream body. Default 30s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub upstream_stall_timeout: Duration,
    /// Least bytes per second of a blob from upstream, on average over `upstream_stall_timeout`; below, the answer is given up and the
    /// rest asked for anew. Default 1 KiB.
    #[serde(deserialize_with = "units::bytes")]
    pub upstream_bytes_per_second_min: u64,
    /// Longest pause in which an upstream that limits our rate, or that is out for something until it says, is not asked. Default 15m.
    #[serde(deserialize_with = "units::positive_duration")]
    pub upstream_backoff_max: Duration,
    /// One fill of one blob, resumptions included. Default 6h.
    #[serde(deserialize_with = "units::positive_duration")]
    pub fill_timeout: Duration,
    /// Requests in a row that bring no byte more of a blob of which some have come; then its fill is given up. Default 8.
    #[serde(deserialize_with = "units::count")]
    pub fill_tries_max: u32,
    /// Longest pause between two such requests; an upstream that asks for a longer one is not asked again. Default 30s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub fill_pause_max: Duration,
    /// What all fills together may have in memory on its way to the disk; one of them has 16 MiB at most. Default 128 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub fill_memory_bytes_max: u64,
    /// What interrupted fills may leave on disk to be taken up again, the oldest going first. Default 8 GiB.
    #[serde(deserialize_with = "units::bytes")]
    pub fill_kept_bytes_max: u64,
    /// How long they may leave it there. Default 7d.
    #[serde(deserialize_with = "units::positive_duration")]
    pub fill_kept_age_max: Duration,
    /// How long a client waits for a decision before it is told to come again; the work goes on. Default 20s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub decision_timeout: Duration,
    /// Connections to one upstream host. Default 64.
    #[serde(deserialize_with = "units::count")]
    pub upstream_connections_max: usize,
    /// Blobs filled at one time; where the disk is full, clients that are streamed what is not kept. Default 32.
    #[serde(deserialize_with = "units::count")]
    pub fills_max: usize,
    /// Those of them that one repository may take; the others are left to others. Default 16.
    #[serde(deserialize_with = "units::count")]
    pub fills_per_repository_max: usize,
    /// Those of them that one upstream may take where there are several; the others are left to others. Default 24.
    #[serde(deserialize_with = "units::count")]
    pub fills_per_upstream_max: usize,
    /// Client connections. Default 4096.
    #[serde(deserialize_with = "units::count")]
    pub connections_max: usize,
    /// Those of them that one client (an address; of IPv6 a /64) may have. Default 2048.
    #[serde(deserialize_with = "units::count")]
    pub connections_per_client_max: usize,
    /// Client connections beyond these two that wait for `queue_timeout` before they are told to come again; more wait in the kernel's
    /// queue, or are closed where it is their client that has too many. Default 64.
    #[serde(deserialize_with = "units::count")]
    pub connections_waiting_max: usize,
    /// HTTP/2 streams of one client connection. Default 256.
    #[serde(deserialize_with = "units::count")]
    pub http2_streams_max: u32,
    /// All headers of one client request. Default 32 KiB.
    #[serde(deserialize_with = "units::bytes")]
    pub request_header_bytes_max: u64,
    /// Header lines of one client request. Default 100.
    #[serde(deserialize_with = "units::count")]
    pub request_headers_max: usize,
    /// Ranges of one client request; more are answered with the whole. Default 1024, of which podman sends that many.
    #[serde(deserialize_with = "units::count")]
    pub ranges_max: usize,
    /// From a client's first byte to the end of its headers. Default 10s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub request_header_timeout: Duration,
    /// A client connection without a request. Default 60s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub client_idle_timeout: Duration,
    /// A client that takes no byte of its answer. Default 60s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub client_write_timeout: Duration,
    /// Client requests worked on at one time, what they began and left included; more wait for `queue_timeout`. Default 1024.
    #[serde(deserialize_with = "units::count")]
    pub requests_max: usize,
    /// Those of them that one client (an address; of IPv6 a /64) may have; more wait for `queue_timeout`. Default 512.
    #[serde(deserialize_with = "units::count")]
    pub requests_per_client_max: usize,
    /// Client requests that wait for their turn; more are told to come again at once. Default 1024.
    #[serde(deserialize_with = "units::count")]
    pub requests_waiting_max: usize,
    /// How long a client request waits for its turn before it is told to come again. Default 5s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub queue_timeout: Duration,
    /// From SIGTERM to the end of the last answer. Default 30s.
    #[serde(deserialize_with = "units::positive_duration")]
    pub drain_timeout: Duration,
    /// Largest policy file. Default 1 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub policy_file_bytes_max: u64,
    /// Policy files in all. Default 256.
    #[serde(deserialize_with = "units::count")]
    pub policy_files_max: usize,
    /// Tags in use that are refreshed in the background. Default 1000.
    #[serde(deserialize_with = "units::count")]
    pub tags_refreshed_max: usize,
    /// Bytes of all manifests that are fetched, judged and sent at one time, as they are sent: what a large one is parsed into takes a multiple
    /// of that. Further ones wait, and are 503 after `queue_timeout`. Default 256 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub manifest_memory_bytes_max: u64,
    /// Tags remembered, those that say what they speak about with them. What is known of them goes on; further ones are resolved each time
    /// they are asked for. Default 1000000.
    #[serde(deserialize_with = "units::count")]
    pub tags_max: usize,
    /// Former digests remembered of one tag. Default 50.
    #[serde(deserialize_with = "units::count")]
    pub tag_history_max: usize,
    /// Images remembered of those that one tag was answered with: among them is the last good one. Default 8.
    #[serde(deserialize_with = "units::count")]
    pub tag_targets_max: usize,
    /// Verdicts kept in memory. Default 10000.
    #[serde(deserialize_with = "units::count")]
    pub verdict_cache_entries_max: usize,
    /// Memory for manifests that were served before, their admissions, and tags, so that they are not read from the store again.
    /// Default 16 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub manifest_cache_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            manifest_bytes_max: 4 * MIB,
            blob_bytes_max: 64 * GIB,
            attestation_bytes_max: 128 * MIB,
            evidence_bytes_max: 128 * MIB,
            evidence_memory_bytes_max: 512 * MIB,
            evidence_count_max: 64,
            evidence_timeout: seconds(600),
            rego_timeout: seconds(5),
            rego_input_bytes_max: 128 * MIB,
            signature_layers_max: 16_384,
            referrers_count_max: 16_384,
            referrers_pages_max: 256,
            referrer_bytes_max: 256 * KIB,
            referrers_waiting_bytes_max: 16 * MIB,
            index_manifests_max: 1000,
            index_depth_max: 4,
            manifest_layers_max: 4096,
            json_depth_max: 64,
            tags_list_bytes_max: 8 * MIB,
            token_bytes_max: 64 * KIB,
            upstream_header_bytes_max: 64 * KIB,
            redirects_max: 5,
            connect_timeout: seconds(5),
            upstream_response_timeout: seconds(10),
            upstream_stall_timeout: seconds(30),
            upstream_bytes_per_second_min: KIB,
            upstream_backoff_max: seconds(900),
            fill_timeout: seconds(6 * 3600),
            fill_tries_max: 8,
            fill_pause_max: seconds(30),
            fill_memory_bytes_max: 128 * MIB,
            fill_kept_bytes_max: 8 * GIB,
            fill_kept_age_max: seconds(7 * 86_400),
            decision_timeout: seconds(20),
            upstream_connections_max: 64,
            fills_max: 32,
            fills_per_repository_max: 16,
            fills_per_upstream_max: 24,
            connections_max: 4096,
            connections_per_client_max: 2048,
            connections_waiting_max: 64,
            http2_streams_max: 256,
            request_header_bytes_max: 32 * KIB,
            request_headers_max: 100,
            ranges_max: 1024,
            request_header_timeout: seconds(10),
            client_idle_timeout: seconds(60),
            client_write_timeout: seconds(60),
            requests_max: 1024,
            requests_per_client_max: 512,
            requests_waiting_max: 1024,
            queue_timeout: seconds(5),
            drain_timeout: seconds(30),
            policy_file_bytes_max: MIB,
            policy_files_max: 256,
            tags_refreshed_max: 1000,
            manifest_memory_bytes_max: 256 * MIB,
            tags_max: 1_000_000,
            tag_history_max: 50,
            tag_targets_max: 8,
            verdict_cache_entries_max: 10_000,
            manifest_cache_bytes_max: 16 * MIB,
        }
    }
}

/// With a budget from here on containerd has given up waiting for an answer's headers: it waits 30 s, and what is not decided in time is
/// told within a second after that.
const CONTAINERD_GIVES_UP: Duration = Duration::from_secs(29);

impl Limits {
    /// Refuses limits that contradict each other, tells what a known client cannot bear.
    pub(crate) fn check(&self, sources: &Sources, notes: &mut Notes) -> Result<(), ConfigError> {
        let all = self.evidence_memory_bytes_max;
        let pieces = [
            ("limits.evidence_bytes_max", self.evidence_bytes_max),
            ("limits.attestation_bytes_max", self.attestation_bytes_max),
        ];
        if let Some((key, one)) = pieces.into_iter().find(|(_, one)| *one > all) {
            let problem =
                format!("{one} bytes for one piece of evidence do not fit into evidence_memory_bytes_max, {all} bytes");
            return Err(sources.conflict(key, problem, "raise evidence_memory_bytes_max as well"));
        }
        // What is kept in memory keeps its room, an index is held while its child is looked at, and a quarter is for small ones.
        let least = self.manifest_cache_bytes_max.saturating_add(self.manifest_bytes_max.saturating_mul(2));
        let least = least.saturating_add(least.div_ceil(3));
        if self.manifest_memory_bytes_max < least {
            let problem = format!(
                "{} bytes are less than four thirds of manifest_cache_bytes_max and twice manifest_bytes_max, {least} bytes",
                self.manifest_memory_bytes_max
            );
            return Err(sources.conflict("limits.manifest_memory_bytes_max", problem, "raise it"));
        }
        if self.decision_timeout >= CONTAINERD_GIVES_UP {
            notes.told("limits.decision_timeout is 29s or more: containerd gives up before it is told to come again");
        } else if self.queue_timeout.saturating_add(self.decision_timeout) >= CONTAINERD_GIVES_UP {
            notes.told(
                "limits.queue_timeout and limits.decision_timeout are 29s or more together: containerd gives up before it is told to come again",
            );
        }
        Ok(())
    }
}
