//! Replays the fuzz corpus: what once broke a parser, or leads deep into one, is tried at every test run.

use std::fs;
use std::path::Path;

use sfu_protocol::fuzz::TARGETS;

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
    let mut random = Random(seed.len() as u64);
    for round in 0..100 {
        let mut data = seed.to_vec();
        for _ in 0..=round % 4 {
            if data.is_empty() {
                break;
            }
            let at = random.below(data.len());
            match random.below(4) {
                0 => data.truncate(at),
                1 => data[at] ^= 1 << random.below(8),
                2 => data[at] = random.below(256) as u8,
                _ => {
                    let part = data[at..(at + random.below(40)).min(data.len())].to_vec();
                    data.splice(at..at, part);
                }
            }
        }
        target(&data);
    }
}

/// Knuth's MMIX generator: the same damage at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
