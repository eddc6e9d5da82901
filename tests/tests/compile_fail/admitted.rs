//! An `Admitted` or `Permit` out of nothing.
use policy::{Admitted, Manifest, Permit};

pub fn forge(admitted: Admitted<Manifest>, permit: &Permit) -> Option<u64> {
    let _ = Admitted::<Manifest>::assertion; //~ FORBIDDEN private
    let _ = Permit::assertion; //~ FORBIDDEN private
    let _ = Admitted::<Manifest>::default(); //~ FORBIDDEN no function or associated item named `default`
    let _: Admitted<Manifest> = serde_json::from_str("{}").ok()?; //~ FORBIDDEN is not satisfied
    let _: Permit = serde_json::from_str("{}").ok()?; //~ FORBIDDEN is not satisfied
    let _ = Admitted { ..admitted }; //~ FORBIDDEN private
    let _: &mut Manifest = &mut *admitted; //~ FORBIDDEN cannot be dereferenced
    let _ = (admitted.digest(), permit.digest());
    Some(permit.size())
}
