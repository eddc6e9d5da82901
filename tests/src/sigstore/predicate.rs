//! What Chainguard attests of its images: the three predicates, in the words of its own pipeline.

use oci::Digest;
use serde_json::{Value, json};

/// SLSA provenance, version 1.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// The configuration that apko built the image from.
pub const IMAGE_CONFIGURATION: &str = "https://apko.dev/image-configuration";
/// The list of what is in the image, as SPDX.
pub const SPDX: &str = "https://spdx.dev/Document";

/// Who Chainguard's provenance says has built the image.
pub const BUILDER: &str = "https://github.com/chainguard-dev/terraform-provider-apko";
/// How.
pub const BUILD_TYPE: &str = "https://apko.dev/slsa-build-type@v1";

/// The provenance of an image that `builder` built.
#[must_use]
pub fn provenance(builder: &str) -> Value {
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {},
            "internalParameters": {},
            "resolvedDependencies": [{
                "uri": "git+https://github.com/chainguard-images/images",
                "digest": { "sha1": "49ce8751d8c7d7e5f1ddbb538a53f64570d201ac" },
            }],
        },
        "runDetails": {
            "builder": { "id": builder, "version": { "apko": "v0.30.12" } },
            "metadata": { "startedOn": "2025-10-09T08:50:00Z", "finishedOn": "2025-10-09T08:53:20Z" },
        },
    })
}

/// The configuration of an image for these architectures.
#[must_use]
pub fn image_configuration(architectures: &[&str]) -> Value {
    json!({
        "contents": {
            "repositories": ["https://apk.cgr.dev/chainguard"],
            "keyring": ["https://apk.cgr.dev/chainguard/chainguard-267e273c.rsa.pub"],
            "packages": ["chainguard-baselayout=20230214-r29", "ca-certificates-bundle=20250911-r0", "nginx=1.29.1-r3"],
        },
        "entrypoint": { "command": "/usr/sbin/nginx" },
        "cmd": "-g 'daemon off;'",
        "archs": architectures,
        "accounts": {
            "run-as": "65532",
            "users": [{ "username": "nonroot", "uid": 65532, "gid": 65532 }],
            "groups": [{ "groupname": "nonroot", "gid": 65532 }],
        },
        "paths": [],
    })
}

/// The packages in `image`.
#[must_use]
pub fn spdx(image: &Digest) -> Value {
    let package = |name: &str, version: &str| {
        json!({
            "SPDXID": format!("SPDXRef-Package-{name}-{version}"),
            "name": name,
            "versionInfo": version,
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "Apache-2.0",
            "downloadLocation": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "supplier": "Organization: Wolfi",
        })
    };
    json!({
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("sbom-{image}"),
        "spdxVersion": "SPDX-2.3",
        "creationInfo": {
            "created": "2025-10-09T08:53:20Z",
            "creators": ["Tool: apko (v0.30.12)", "Organization: Chainguard, Inc"],
            "licenseListVersion": "3.22",
        },
        "dataLicense": "CC0-1.0",
        "documentNamespace": format!("https://spdx.org/spdxdocs/apko/{}", image.hex()),
        "documentDescribes": ["SPDXRef-Package-nginx-1.29.1-r3"],
        "packages": [package("nginx", "1.29.1-r3"), package("ca-certificates-bundle", "20250911-r0")],
    })
}

/// All three of `image`, with their types.
#[must_use]
pub fn chainguard(image: &Digest, architectures: &[&str]) -> [(&'static str, Value); 3] {
    [(PROVENANCE, provenance(BUILDER)), (IMAGE_CONFIGURATION, image_configuration(architectures)), (SPDX, spdx(image))]
}
