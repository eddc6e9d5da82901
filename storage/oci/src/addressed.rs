//! Bytes together with the digest that was computed from them.

use bytes::Bytes;

use crate::{Algorithm, Digest};

/// Bytes whose digest has been computed: the first step from the network to a response. Says nothing about who signed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    digest: Digest,
    bytes: Bytes,
}

/// Content is not what its digest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content does not match its digest: want {want}, got {got} after {bytes} bytes")]
pub struct DigestMismatch {
    /// The digest that was asked for.
    pub want: Digest,
    /// The digest of what came.
    pub got: Digest,
    /// How many bytes came.
    pub bytes: u64,
}

impl Addressed {
    /// Checks `bytes` against the digest under which they were asked for.
    ///
    /// # Errors
    /// When the digest of `bytes` is another.
    pub fn check(want: &Digest, bytes: Bytes) -> Result<Self, DigestMismatch> {
        let got = Digest::of(want.algorithm(), &bytes);
        if &got == want {
            Ok(Self { digest: got, bytes })
        } else {
            Err(DigestMismatch { want: want.clone(), got, bytes: bytes.len() as u64 })
        }
    }

    /// Computes the digest of bytes that were asked for by another name, such as a tag.
    #[must_use]
    pub fn hash(algorithm: Algorithm, bytes: Bytes) -> Self {
        Self { digest: Digest::of(algorithm, &bytes), bytes }
    }

    /// The same, with something that is dropped when nobody holds these bytes any more: the room that they take, say.
    #[must_use]
    pub fn with(self, companion: impl Send + 'static) -> Self {
        let Self { digest, bytes } = self;
        Self { digest, bytes: Bytes::from_owner(Accompanied { bytes, _companion: companion }) }
    }

    /// The computed digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, handed on.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

struct Accompanied<C> {
    bytes: Bytes,
    _companion: C,
}

impl<C> AsRef<[u8]> for Accompanied<C> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_companion_goes_with_the_last_handle_on_the_bytes() {
        let companion = Arc::new(());
        let addressed = Addressed::hash(Algorithm::Sha256, Bytes::from_static(b"some"));
        let accompanied = addressed.clone().with(Arc::clone(&companion));
        assert_eq!(accompanied, addressed);
        let end = accompanied.bytes().slice(2..);
        drop((addressed, accompanied));
        assert_eq!((end.as_ref(), Arc::strong_count(&companion)), (b"me".as_slice(), 2));
        drop(end);
        assert_eq!(Arc::strong_count(&companion), 1);
    }

    #[test]
    fn other_bytes_are_not_taken_for_a_digest() {
        let want = Digest::sha256(b"good");
        assert!(Addressed::check(&want, Bytes::from_static(b"good")).is_ok());
        let error = Addressed::check(&want, Bytes::from_static(b"evil!")).unwrap_err();
        assert_eq!((error.want, error.bytes), (want, 5));
    }
}
