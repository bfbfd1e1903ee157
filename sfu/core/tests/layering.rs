//! Who may import whom. The rules are ARCHITECTURE.md's; this test keeps them true.
//!
//! It reads the sources as text and looks at `crate::x` and `sfu_core::x` paths: coarse, but nobody imports by
//! accident around it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of sfu-core and the modules it may import. Modules that are not listed fail the test.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (TESTING, &[]),
    ("units", &[]),
    ("seq", &[]),
    ("stats", &[]),
    ("timers", &["units"]),
    ("config", &["units"]),
    ("rtp", &["units", "seq"]),
    ("cc", &["units", "seq", "stats", "rtp"]),
    ("track", &["units", "seq", "stats", "rtp"]),
    ("forward", &["units", "seq", "stats", "rtp", "track"]),
    ("room", &["units", "seq", "stats", "timers", "config", "rtp", "cc", "track", "forward"]),
    ("transport", &["units", "seq", "stats", "timers", "config", "rtp"]),
    ("command", &["units", "rtp", "transport"]),
    ("worker", &["units", "seq", "stats", "timers", "config", "rtp", "transport", "room", "command"]),
];

/// What tests and fuzz functions of all modules use. It imports nothing, and no product build has it.
const TESTING: &str = "testing";

/// Modules of the feature `sim`: they may import anything, and nothing may import them.
const SIM: &[&str] = &["sim", "fuzz"];

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for file in rust_files(&core_src()) {
        let module = module_of(&file);
        if module == "lib" || SIM.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module `{module}` has no rule in layering.rs", file.display()));
            continue;
        };
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            if import != module && import != TESTING && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: `{module}` may not import `{import}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cc_sees_only_rtcp_of_rtp() {
    for file in rust_files(&core_src().join("cc")) {
        let text = fs::read_to_string(&file).unwrap();
        for (_, rest) in text.match_indices("crate::rtp::").map(|(at, found)| (at, &text[at + found.len()..]))
        {
            assert!(rest.starts_with("rtcp"), "{}: cc may import rtp::rtcp only", file.display());
        }
    }
}

#[test]
fn the_rtc_crate_is_imported_in_transport_alone() {
    let workspace = core_src().join("../../..");
    let mut wrong = Vec::new();
    // Not loadtest: it is a peer of its own on the crate `webrtc`, whose interface is made of `rtc`'s types.
    for root in ["sfu", "signaling", "benches"] {
        for file in rust_files(&workspace.join(root)) {
            let inside = file.to_string_lossy().replace('\\', "/");
            let transport = inside.contains("core/src/transport/");
            let text = fs::read_to_string(&file).unwrap();
            let imports_rtc = text.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && (line.contains("use rtc::") || contains_path(line, "rtc::"))
            });
            // Tests build independent peers of the same family.
            if imports_rtc && !transport && !inside.contains("/tests/") {
                wrong.push(inside);
            }
        }
    }
    assert!(wrong.is_empty(), "`rtc` is imported outside sfu-core's transport: {wrong:?}");
}

#[test]
fn signaling_reaches_the_sfu_only_through_the_protocol_and_embedded() {
    let signaling = core_src().join("../../../signaling/src");
    for file in rust_files(&signaling) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("sfu_core"), "{}: signaling may not see sfu-core", file.display());
        let embedded = file.ends_with("embedded.rs");
        let uses_sfu = text.lines().any(|line| contains_path(line, "sfu::"));
        assert!(embedded || !uses_sfu, "{}: only embedded.rs may import `sfu`", file.display());
    }
}

fn core_src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if path.is_dir() && !["target", "node_modules"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The top-level module that a source file belongs to.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(core_src()).expect("it is a source file of the core");
    let first = inside.components().next().expect("it has a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that `text` names through `crate::`, grouped imports included.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, path) in line.match_indices("crate::") {
            let rest = &line[at + path.len()..];
            let names = rest.strip_prefix('{').map_or(rest, |group| group);
            for name in names.split([',', '}']).take(if rest.starts_with('{') { usize::MAX } else { 1 }) {
                let name: String =
                    name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if name.starts_with(|c: char| c.is_lowercase()) && name != "self" {
                    found.insert(name);
                }
            }
        }
    }
    found
}

/// Whether `line` has the path `path` other than as the end of a longer name.
fn contains_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '`')
    })
}
