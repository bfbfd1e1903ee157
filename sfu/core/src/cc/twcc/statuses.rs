//! Packs packet statuses into chunks and deltas.

use super::{MAX_RUN, ONE_BIT_SYMBOLS, TWO_BIT_SYMBOLS};

/// What happened to a packet: the delta of its arrival, in ticks, or `None` where it did not arrive.
pub(super) type Status = Option<i16>;

/// How many statuses find room in `bytes`, whatever they are: two bytes of delta each, and a chunk for each
/// seven of them (the last one may cover fewer).
pub(super) const fn capacity(bytes: usize) -> usize {
    bytes.saturating_sub(2) * 7 / 16
}

/// Writes the chunks, then the deltas. Returns the bytes written; `None` where `out` is too short.
pub(super) fn write(statuses: &[Status], out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    let mut rest = statuses;
    while !rest.is_empty() {
        let (chunk, covered) = first_chunk(rest);
        put(&chunk.to_be_bytes())?;
        rest = &rest[covered..];
    }
    for &delta in statuses.iter().flatten() {
        match u8::try_from(delta) {
            Ok(small) => put(&[small])?,
            Err(_) => put(&delta.to_be_bytes())?,
        }
    }
    Some(at)
}

fn symbol(status: Status) -> u16 {
    match status {
        None => 0,
        Some(0..=255) => 1,
        Some(_) => 2,
    }
}

/// The chunk that covers the most of the first statuses, and how many it covers: at least seven, unless fewer
/// are left.
fn first_chunk(statuses: &[Status]) -> (u16, usize) {
    let first = symbol(statuses[0]);
    let run = statuses.iter().take(MAX_RUN).take_while(|&&status| symbol(status) == first).count();
    if run >= ONE_BIT_SYMBOLS || run == statuses.len() {
        return (first << 13 | run as u16, run);
    }
    let list = |width: u16, statuses: &[Status]| {
        // From the left: the first symbol takes the highest of the 14 bits.
        let symbols = statuses.iter().zip(1..);
        symbols.fold(0, |list, (&status, place)| list | symbol(status) << (14 - width * place))
    };
    let one_bit = &statuses[..statuses.len().min(ONE_BIT_SYMBOLS)];
    if one_bit.iter().all(|&status| symbol(status) < 2) {
        return (0x8000 | list(1, one_bit), one_bit.len());
    }
    if run >= TWO_BIT_SYMBOLS {
        return (first << 13 | run as u16, run);
    }
    let two_bit = &statuses[..statuses.len().min(TWO_BIT_SYMBOLS)];
    (0xc000 | list(2, two_bit), two_bit.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Status = None;
    const SMALL: Status = Some(4);
    const LARGE: Status = Some(256);

    #[test]
    fn chooses_the_chunk_that_covers_most() {
        let alternating: Vec<_> = [SMALL, LOST].into_iter().cycle().take(20).collect();
        let table: [(&[Status], u16, usize); 8] = [
            (&[SMALL], 0x2001, 1),
            (&[LOST; 221], 0x00dd, 221), // the draft's example of a run
            (&[LARGE; 20], 0x4014, 20),
            (&[LOST; 9000], 0x1fff, 8191),
            (&alternating, 0xaaaa, 14),
            (&alternating[..3], 0xa800, 3),
            // Ten alike and a large delta: a run of ten covers more than seven symbols of two bits.
            (&[[LARGE; 10].as_slice(), &[SMALL; 10]].concat(), 0x400a, 10),
            (&[LOST, LARGE, SMALL, SMALL, SMALL, LOST, LOST, LOST], 0xc000 | 0b00_10_01_01_01_00_00, 7),
        ];
        for (statuses, chunk, covered) in table {
            assert_eq!(first_chunk(statuses), (chunk, covered), "{statuses:?}");
        }
    }

    #[test]
    fn writes_the_draft_example_of_a_list() {
        // §3.1.4: not received, 5 received, 3 not, 3 received, 2 not.
        let mut statuses = [LOST; 14];
        for place in [1, 2, 3, 4, 5, 9, 10, 11] {
            statuses[place] = SMALL;
        }
        assert_eq!(first_chunk(&statuses), (0b1001_1111_0001_1100, 14));
    }

    #[test]
    fn deltas_take_one_byte_or_two() {
        let mut out = [0; 16];
        let statuses = [Some(0), Some(255), LOST, Some(256), Some(-1)];
        let len = write(&statuses, &mut out).unwrap();
        assert_eq!(out[..len], [0xd4, 0xa0, 0, 255, 1, 0, 0xff, 0xff]);
        assert_eq!(write(&statuses, &mut out[..7]), None);
    }

    #[test]
    fn the_capacity_holds_the_worst_statuses() {
        for bytes in 0..300 {
            let worst: Vec<_> = [LARGE, LARGE, SMALL].into_iter().cycle().take(capacity(bytes)).collect();
            for statuses in [worst, vec![LARGE; capacity(bytes)]] {
                assert!(write(&statuses, &mut vec![0; bytes]).is_some(), "{bytes}");
            }
        }
    }
}
