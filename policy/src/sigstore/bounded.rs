//! Lists from outside, read no further than there is reason to.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

/// A list of at most `MAX`; a longer one is an error at its first element too many, before the rest takes up memory.
pub(super) struct Bounded<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// `null` is an empty list, as in the JSON of protocol buffers.
impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Elements::<T, MAX>(PhantomData))
    }
}

struct Elements<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Bounded::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < MAX {
            match seq.next_element()? {
                Some(element) => elements.push(element),
                None => return Ok(Bounded(elements)),
            }
        }
        match seq.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(Bounded(elements)),
            Some(_) => Err(A::Error::custom(format_args!("a list is longer than {MAX}"))),
        }
    }
}
