//! So many admissions, readmissions or bare verifications, for a tool that counts allocations: `admissions admit 11`. What making
//! keys and evidence allocates is the same in every run but for some; compare two counts with one another.

use std::hint::black_box;

use benches::Attested;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).expect("admit|readmit|bare, and a number");
    let attested = Attested::new();
    let record = attested.record();
    for _ in 0..count {
        match what.as_str() {
            "admit" => {
                let _ = black_box(attested.admit());
            }
            "readmit" => {
                let _ = black_box(attested.readmit(&record));
            }
            _ => {
                black_box(attested.verify_bare());
            }
        }
    }
}
