//! Replays the fuzz corpus: what once broke a parser, or leads deep into one, is tried at every test run.

use std::fs;
use std::path::Path;

use sfu_core::fuzz::TARGETS;
use sfu_core::sim::clock::Random;

#[test]
fn every_parser_holds_on_its_corpus_and_on_damaged_copies_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let mut seeds = 0;
        for entry in fs::read_dir(folder.join(name)).unwrap_or_else(|_| panic!("{name} has a corpus")) {
            let seed = fs::read(entry.unwrap().path()).unwrap();
            target(&seed);
            damage(*target, &seed);
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has seeds");
    }
}

#[test]
fn every_target_has_a_shell_for_cargo_fuzz() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in fuzz/Cargo.toml");
        let shell = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(shell.contains(&format!("run(\"{name}\"")), "{name}'s shell runs {name}");
    }
}

/// Truncates, flips bits and repeats parts: what a hurried attacker does first.
fn damage(target: fn(&[u8]), seed: &[u8]) {
    let mut random = Random::new(seed.len() as u64);
    for round in 0..300 {
        let mut data = seed.to_vec();
        for _ in 0..=round % 4 {
            if data.is_empty() {
                break;
            }
            let at = random.below(data.len() as u64) as usize;
            match random.below(4) {
                0 => data.truncate(at),
                1 => data[at] ^= 1 << random.below(8),
                2 => data[at] = random.next_u64() as u8,
                _ => {
                    let end = (at + random.below(40) as usize).min(data.len());
                    let part = data[at..end].to_vec();
                    data.splice(at..at, part);
                }
            }
        }
        target(&data);
    }
}
