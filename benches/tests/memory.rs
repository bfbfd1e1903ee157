//! Memory cannot creep back: bytes are exact, so a bound needs no more room than a few new fields take.

use benches::counting::{self, Counting, counted};
use benches::memory::{measure, parts};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KIB: usize = 1024;

#[test]
fn a_lesson_takes_no_more_than_we_say() {
    let footprint = measure(20).unwrap();
    for (what, bytes, limit) in [
        ("idle transport", footprint.idle_transport, 20 * KIB),
        ("idle transport with data channels", footprint.idle_transport_with_channels, 32 * KIB),
        ("idle down track", footprint.down_track, 2 * KIB),
        ("active down track", footprint.active_down_track, 8 * KIB),
        ("active down track of sound", footprint.active_audio_down_track, 8 * KIB),
    ] {
        assert!(bytes <= limit, "{what}: {bytes} of {limit} bytes; {footprint:?}");
        assert!(bytes > limit / 8, "{what}: only {bytes} bytes: is it counted at all?");
    }
}

#[test]
fn the_parts_of_a_transport_are_those_that_handshakes_left() {
    let parts = parts().unwrap();
    assert!(parts.iter().map(|(_, bytes)| bytes).sum::<usize>() <= 28 * KIB, "{parts:?}");
    assert!(parts.iter().any(|&(name, bytes)| name == "SCTP" && bytes > KIB), "{parts:?}");
}

#[test]
fn what_is_allocated_while_counting_is_on_the_account_until_it_is_freed() {
    let before = counting::bytes();
    let mut block = counted(|| Vec::<u64>::with_capacity(10));
    let other: Vec<u8> = Vec::with_capacity(1000);
    assert_eq!(counting::bytes() - before, 80);
    block.reserve_exact(20);
    assert_eq!(counting::bytes() - before, 160, "it stays there when it grows");
    counted(|| drop(other));
    assert_eq!(counting::bytes() - before, 160);
    drop(block);
    assert_eq!(counting::bytes() - before, 0);
}
