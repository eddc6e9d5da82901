//! A throw-away TUF repository that publishes a `trusted_root.json`, laid out and signed as Sigstore's is, and a mirror that hands
//! it out over http on loopback and can be told to misbehave.

mod mirror;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::KeyPair;
use sigstore_tuf::canonical_json::to_canonical_bytes;

pub use mirror::{Mirror, MirrorFault};

/// Files by their path in the repository.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The four roles of TUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Says whose signatures count.
    Root,
    /// Says which snapshot is current.
    Timestamp,
    /// Says which targets are current.
    Snapshot,
    /// Says what the trusted root is.
    Targets,
}

impl Role {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }
}

/// The repository as whoever holds all its keys has it.
pub struct Repository {
    keys: BTreeMap<Role, Key>,
    versions: BTreeMap<Role, u64>,
    expires: BTreeMap<Role, String>,
    /// Every root so far, signed; the first is version 1.
    roots: Vec<Vec<u8>>,
    target: Vec<u8>,
    target_name: String,
    delegated: Option<(Delegation, Key)>,
}

/// A role to which the targets role hands its one target: it lists the target, and the targets role does not.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// Its name, which becomes that of a file.
    pub role: String,
    /// Which targets it is given, as patterns.
    pub paths: Vec<String>,
    /// Whether the snapshot says which version of it is current.
    pub pinned: bool,
    /// Whether a key signs it of which the targets role does not know.
    pub forged: bool,
}

impl Delegation {
    /// One that is as it should be.
    #[must_use]
    pub fn to(role: &str) -> Self {
        Self { role: role.to_owned(), paths: vec!["*.json".to_owned()], pinned: true, forged: false }
    }

    /// The name of its file.
    #[must_use]
    pub fn file(&self) -> String {
        let escaped = self.role.bytes().map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        });
        format!("1.{}.json", escaped.collect::<String>())
    }
}

struct Key {
    pair: KeyPair,
    id: String,
    json: Value,
}

impl Key {
    fn new() -> Self {
        let pair = KeyPair::generate_ecdsa_p256().expect("aws-lc makes P-256 keys");
        let pem = pair.public_key_der().expect("a key has a public half").to_pem();
        let json = json!({ "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": { "public": pem } });
        let id = hex::encode(Sha256::digest(to_canonical_bytes(&json).expect("no numbers")));
        Self { pair, id, json }
    }

    fn sign(&self, signed: &Value) -> Value {
        let canonical = to_canonical_bytes(signed).expect("whole numbers only");
        let signature = self.pair.sign(&canonical).expect("a key that was made signs");
        json!({ "keyid": self.id, "sig": hex::encode(signature.as_bytes()) })
    }
}

impl Repository {
    /// A new one, all at version 1, valid for very long.
    #[must_use]
    pub fn new(trusted_root: &str) -> Self {
        let mut this = Self {
            keys: Role::ALL.map(|role| (role, Key::new())).into(),
            versions: Role::ALL.map(|role| (role, 1)).into(),
            expires: Role::ALL.map(|role| (role, "2999-01-01T00:00:00Z".to_owned())).into(),
            roots: Vec::new(),
            target: trusted_root.as_bytes().to_vec(),
            target_name: "trusted_root.json".to_owned(),
            delegated: None,
        };
        this.roots.push(envelope(&this.root(), &[&this.keys[&Role::Root]]));
        this
    }

    /// The first root: what a client begins with.
    #[must_use]
    pub fn initial(&self) -> String {
        String::from_utf8(self.roots[0].clone()).expect("JSON is text")
    }

    /// Publishes another target, and new metadata up to the timestamp.
    pub fn publish(&mut self, trusted_root: &str) {
        self.target = trusted_root.as_bytes().to_vec();
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            self.advance(role);
        }
    }

    /// Publishes the target under another name, so that the usual one is listed no more.
    pub fn rename_target(&mut self, name: &str) {
        name.clone_into(&mut self.target_name);
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            self.advance(role);
        }
    }

    /// Lists the target by another role from now on, once it is published.
    pub fn delegate(&mut self, delegation: Delegation) {
        self.delegated = Some((delegation, Key::new()));
    }

    /// The next version of a role's metadata, with the same content.
    pub fn advance(&mut self, role: Role) {
        self.set_version(role, self.versions[&role] + 1);
    }

    /// Any version.
    pub fn set_version(&mut self, role: Role, version: u64) {
        self.versions.insert(role, version);
    }

    /// When a role's metadata end. A root that is published already does not change by it.
    pub fn set_expires(&mut self, role: Role, time: &str) {
        self.expires.insert(role, time.to_owned());
    }

    /// Gives a role another key, and publishes a root that says so, signed by the former root key and by its own.
    pub fn rotate(&mut self, role: Role) {
        let former = self.keys.insert(role, Key::new()).expect("every role has a key");
        self.advance(Role::Root);
        let root = self.root();
        let own = &self.keys[&Role::Root];
        let signers = if role == Role::Root { vec![own, &former] } else { vec![own] };
        let signed = envelope(&root, &signers);
        self.roots.push(signed);
    }

    /// Publishes a root that only its own new key signs: the former one has not agreed.
    pub fn usurp(&mut self) {
        self.keys.insert(Role::Root, Key::new());
        self.advance(Role::Root);
        let signed = envelope(&self.root(), &[&self.keys[&Role::Root]]);
        self.roots.push(signed);
    }

    /// Signs a role's metadata from now on with a key of which no root knows.
    pub fn forge(&mut self, role: Role) {
        let mut forged = Key::new();
        forged.id.clone_from(&self.keys[&role].id);
        self.keys.insert(role, forged);
    }

    /// Everything as it is published now.
    #[must_use]
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        for (index, root) in self.roots.iter().enumerate() {
            files.insert(format!("{}.root.json", index + 1), root.clone());
        }
        let target_hash = hex::encode(Sha256::digest(&self.target));
        let entry = json!({ "length": self.target.len(), "hashes": { "sha256": target_hash } });
        let listed = json!({ "targets": { &self.target_name: entry } });
        let own = match &self.delegated {
            None => listed,
            Some((delegation, key)) => {
                let mut signed = self.common(Role::Targets);
                signed["version"] = 1.into();
                signed["targets"] = listed["targets"].clone();
                let stranger = Key { id: key.id.clone(), ..Key::new() };
                files.insert(delegation.file(), envelope(&signed, &[if delegation.forged { &stranger } else { key }]));
                handed_over(delegation, key)
            }
        };
        let targets = self.signed(Role::Targets, &own);
        let mut pins = self.meta(Role::Targets, &targets);
        if let Some((delegation, _)) = self.delegated.as_ref().filter(|(delegation, _)| delegation.pinned) {
            pins["meta"][format!("{}.json", delegation.role)] = json!({ "version": 1 });
        }
        let snapshot = self.signed(Role::Snapshot, &pins);
        let timestamp = self.signed(Role::Timestamp, &self.meta(Role::Snapshot, &snapshot));
        files.insert(format!("targets/{target_hash}.{}", self.target_name), self.target.clone());
        files.insert(format!("{}.targets.json", self.versions[&Role::Targets]), targets);
        files.insert(format!("{}.snapshot.json", self.versions[&Role::Snapshot]), snapshot);
        files.insert("timestamp.json".to_owned(), timestamp);
        files
    }

    fn meta(&self, role: Role, bytes: &[u8]) -> Value {
        let pinned = json!({
            "version": self.versions[&role],
            "length": bytes.len(),
            "hashes": { "sha256": hex::encode(Sha256::digest(bytes)) },
        });
        json!({ "meta": { format!("{}.json", role.as_str()): pinned } })
    }

    fn signed(&self, role: Role, own: &Value) -> Vec<u8> {
        let mut signed = self.common(role);
        for (name, value) in own.as_object().expect("an object") {
            signed[name] = value.clone();
        }
        envelope(&signed, &[&self.keys[&role]])
    }

    fn root(&self) -> Value {
        let mut root = self.common(Role::Root);
        root["consistent_snapshot"] = true.into();
        root["keys"] = self.keys.values().map(|key| (key.id.clone(), key.json.clone())).collect();
        let role = |role: &Role| json!({ "keyids": [self.keys[role].id], "threshold": 1 });
        root["roles"] = Role::ALL.iter().map(|name| (name.as_str().to_owned(), role(name))).collect();
        root
    }

    fn common(&self, role: Role) -> Value {
        json!({
            "_type": role.as_str(),
            "spec_version": "1.0.31",
            "version": self.versions[&role],
            "expires": self.expires[&role],
        })
    }
}

/// What the targets role says that lists nothing by itself.
fn handed_over(delegation: &Delegation, key: &Key) -> Value {
    json!({
        "targets": {},
        "delegations": {
            "keys": { &key.id: key.json },
            "roles": [{
                "name": delegation.role,
                "keyids": [key.id],
                "threshold": 1,
                "terminating": false,
                "paths": delegation.paths,
            }],
        },
    })
}

fn envelope(signed: &Value, signers: &[&Key]) -> Vec<u8> {
    let signatures: Vec<_> = signers.iter().map(|key| key.sign(signed)).collect();
    serde_json::to_vec(&json!({ "signed": signed, "signatures": signatures })).expect("JSON")
}
