//! Replays a fuzz corpus: what once broke a parser, or leads deep into one, is tried at every test run.

use std::fs;
use std::path::Path;

use super::Target;

/// Copies of each seed that are damaged.
const ROUNDS: u64 = 300;

/// Gives each target its seeds in `<fuzz>/corpus/<name>`, and damaged copies of them.
///
/// # Panics
/// Where a target does, or has no seeds.
pub fn replay(targets: &[(&str, Target)], fuzz: &Path) {
    for (name, target) in targets {
        let folder = fuzz.join("corpus").join(name);
        let mut seeds = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|_| panic!("{name} has a corpus")) {
            let seed = fs::read(entry.expect("the folder can be read").path()).expect("a seed can be read");
            target(&seed);
            damage(*target, &seed);
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has seeds");
    }
}

/// Checks that cargo-fuzz knows each target: by `<fuzz>/Cargo.toml` and a shell in `<fuzz>/fuzz_targets`.
///
/// # Panics
/// Where one is missing, or runs another target.
pub fn assert_shells(targets: &[(&str, Target)], fuzz: &Path) {
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the shells have a manifest");
    for (name, _) in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in fuzz/Cargo.toml");
        let shell = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs")));
        let runs = shell.is_ok_and(|shell| shell.contains(&format!("run(\"{name}\"")));
        assert!(runs, "{name}'s shell runs {name}");
    }
}

/// Truncates, flips bits and repeats parts: what a hurried attacker does first.
fn damage(target: Target, seed: &[u8]) {
    let mut random = Random(seed.len() as u64);
    for round in 0..ROUNDS {
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
