//! Writes the golden answers of `tests/sdp` anew, after a deliberate change of what we answer.

#[path = "../tests/sdp/scenario.rs"]
#[allow(dead_code, unreachable_pub)]
mod scenario;

fn main() -> std::io::Result<()> {
    for name in scenario::names() {
        let offer = scenario::read("offers", &name).expect("listed a moment ago");
        std::fs::write(scenario::folder("answers").join(name), scenario::answer(&offer))?;
    }
    Ok(())
}
