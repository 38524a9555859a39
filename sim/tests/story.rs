//! What is told of a run changes nothing in it, and is told of all that has a part in it.

use std::collections::BTreeSet;

use drey_sim::changes::Changes;
use drey_sim::driver::DriverKind;
use drey_sim::report;
use drey_sim::run::run_plan;
use drey_sim::story::{Keep, Topic, What, page};
use drey_sim::trace::Text;

#[test]
fn a_story_changes_nothing_and_everybody_is_in_it() {
    let plan = Changes::default().plan(3);
    for driver in [DriverKind::Queue, DriverKind::Turmoil] {
        let report = run_plan(&plan, driver, Text::Story(Keep::ALL));
        assert_eq!(report.hash, run_plan(&plan, driver, Text::None).hash, "{driver}");
        let events = &report.told.events;
        let hosts: BTreeSet<usize> = events.iter().filter_map(|event| event.host).collect();
        assert!((0..=plan.nodes).all(|host| hosts.contains(&host)), "{driver}: {hosts:?}");
        let topics: BTreeSet<Topic> = events.iter().map(|event| event.topic).collect();
        let missing: Vec<_> = Topic::ALL.iter().filter(|topic| !topics.contains(topic)).collect();
        assert_eq!(missing, [&Topic::Broken], "{driver}");
        assert!(events.is_sorted_by_key(|event| event.at_ms));

        // Nothing arrives that nobody sent; some of what was sent is lost.
        let sent = events.iter().filter_map(|event| match event.what {
            What::Sent(to, parcel) => Some((parcel, (event.host, to))),
            _ => None,
        });
        let got = events.iter().filter_map(|event| match event.what {
            What::Got(from, parcel) => Some((parcel, (Some(from), event.host))),
            _ => None,
        });
        let sent: BTreeSet<_> = sent.map(|(parcel, (from, to))| (parcel, from, Some(to))).collect();
        let got: BTreeSet<_> = got.map(|(parcel, (from, to))| (parcel, from, to)).collect();
        assert!(got.len() > 1_000 && got.is_subset(&sent), "{driver}: {:?}", got.difference(&sent).next());
        assert!(got.len() < sent.len(), "{driver}");
    }
}

#[test]
fn a_failure_shows_the_law_the_events_side_by_side_and_the_command() {
    // In some seeds a node is lost so early that hardly anything happened before.
    let words = ["Append", "committed", "applied"];
    let tells = |seed| {
        let plan = Changes { disks_lie: true, ..Changes::default() }.plan(seed);
        let failed = run_plan(&plan, DriverKind::Queue, Text::None);
        let said = report::failure(&failed).filter(|said| words.iter().all(|word| said.contains(word)))?;
        Some((seed, plan, failed, said))
    };
    let (seed, plan, failed, said) = (0..10).find_map(tells).expect("disks lie, and reports tell of it");
    let violation = failed.verdict.expect_err("disks lie");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("seed {seed} breaks a law: {}", violation.law));
    assert!(lines.iter().all(|line| line.chars().count() < 260), "{said}");
    assert!(said.lines().count() < 140, "{said}");
    let titles = lines.iter().find(|line| line.contains("| clients")).expect("a row of titles");
    assert!((1..=plan.nodes).all(|node| titles.contains(&format!("| n{node}"))), "{titles}");
    assert!(said.contains(&format!("-- run --seed {seed} --driver queue --disks-lie")), "{said}");
}

#[test]
fn a_page_needs_nothing_else() {
    let plan = Changes { disks_lie: true, faults_ms: Some(5_000), ..Changes::default() }.plan(0);
    let page = page::page(&run_plan(&plan, DriverKind::Queue, Text::Story(Keep::ALL)));
    assert!(!page.contains("{{"), "nothing is left to be filled in");
    assert!(["src=", "href=", "http:", "https:", "import "].iter().all(|elsewhere| !page.contains(elsewhere)));
    assert_eq!(page.matches("</script>").count(), 2);
}
