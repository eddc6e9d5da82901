//! What must hold of every call that pratique makes.

use super::{
    law::Law,
    world::{CLIENT_CANARY, UPSTREAMS, secrets, token_of},
};
use crate::upstream::{Call, Place, Registry};

impl Law {
    /// Looks at every call that reached the upstreams since the last time.
    pub fn calls(&self, registries: &[Registry; UPSTREAMS]) {
        for (upstream, registry) in registries.iter().enumerate() {
            for call in registry.calls() {
                if let Err(why) = permitted(upstream, &call) {
                    self.record.violation(&format!(
                        "{} {:?} of upstream {upstream} {}: {why}",
                        call.method, call.place, call.path
                    ));
                }
            }
            registry.clear_calls();
        }
    }
}

/// Whether an upstream may be asked so.
fn permitted(upstream: usize, call: &Call) -> Result<(), String> {
    if call.mentions(CLIENT_CANARY) {
        return Err("it carries what a client sent".to_owned());
    }
    for other in (0..UPSTREAMS).filter(|other| *other != upstream) {
        if secrets(other).iter().chain([&token_of(other)]).any(|secret| call.mentions(secret)) {
            return Err(format!("it carries a secret of upstream {other}"));
        }
        if call.mentions(&format!("smuggled-{other}")) {
            return Err(format!("upstream {other} has sent it here"));
        }
    }
    if call.mentions("token-of-a-stranger") {
        return Err("it carries a token of a stranger".to_owned());
    }
    let has_secret = call.has_authorization() || secrets(upstream).iter().any(|secret| call.mentions(secret));
    match call.place {
        Place::Foreign => Err("nobody has listed that host".to_owned()),
        Place::Storage if has_secret || call.mentions("token-") => Err("it carries a secret".to_owned()),
        Place::Registry | Place::Auth | Place::Storage => Ok(()),
    }
}
