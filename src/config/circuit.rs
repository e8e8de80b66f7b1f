//! `circuit.*`: when the transfer to an ERP pauses. The rule itself is in the domain.

use crate::domain::circuit::CircuitRule;

use super::reader::{ONE_DAY, ONE_MS, Reader};

pub(super) fn read(r: &mut Reader) -> CircuitRule {
    CircuitRule {
        suspect_after: r.number("circuit.suspect_after", 1..=1_000),
        open_after: r.number("circuit.open_after", 1..=10_000),
        pause: r.duration("circuit.pause", ONE_MS..=ONE_DAY),
        longest_pause: r.duration("circuit.longest_pause", ONE_MS..=ONE_DAY),
    }
}
