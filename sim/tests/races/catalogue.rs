//! `docs/races.md` and these tests say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use schemas::cure::Cure;

use crate::race::AGAINST_LOST_BATCHES;

/// Races in the catalogue.
const RACES: u32 = 68;

#[test]
fn every_race_is_on_the_page() {
    let rows = page();
    assert!((1..=RACES).eq(rows.keys().copied()), "{:?}", rows.keys());
    for (race, row) in rows {
        assert!(!row.part.is_empty() || !row.tests.is_empty(), "R{race} has neither test nor part");
    }
}

#[test]
fn page_and_tests_name_the_same() {
    let (rows, told) = (page(), told());
    for (race, row) in &rows {
        let of: BTreeMap<_, _> =
            told.iter().filter(|(name, _)| number(name) == Some(*race)).collect();
        let tests: BTreeSet<&str> = of.keys().map(|name| name.as_str()).collect();
        assert_eq!(tests, row.tests.iter().map(String::as_str).collect(), "tests of R{race}");
        if !tests.is_empty() {
            let cures: BTreeSet<&str> =
                of.values().flat_map(|cures| cures.iter()).copied().collect();
            let named = row.cures.iter().map(String::as_str).collect();
            assert_eq!(cures, named, "cures of R{race}: tests on the left, page on the right");
        }
    }
    let unknown =
        told.keys().filter(|name| number(name).is_none_or(|race| !rows.contains_key(&race)));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new(), "tests of no race");
}

#[test]
fn every_cure_has_a_race() {
    let told: BTreeSet<&str> = told().into_values().flatten().collect();
    let idle: Vec<&str> = Cure::ALL
        .iter()
        .map(|cure| cure.describe().0)
        .filter(|cure| !told.contains(cure))
        .collect();
    assert_eq!(idle, Vec::<&str>::new(), "no race needs these");
}

#[derive(Debug, Default)]
struct Row {
    cures: Vec<String>,
    tests: Vec<String>,
    part: String,
}

/// The rows of the page, by number.
fn page() -> BTreeMap<u32, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/races.md");
    let text = fs::read_to_string(path).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells = cells(line);
        let race: u32 = cells[1].strip_prefix('R')?.parse().ok()?;
        let (cures, tests) = (quoted(&cells[3]), quoted(&cells[4]));
        Some((race, Row { cures, tests, part: cells[4].clone() }))
    };
    let rows: Vec<_> =
        text.lines().filter(|line| line.starts_with("| R")).filter_map(row).collect();
    let by_number: BTreeMap<u32, Row> = rows.into_iter().collect();
    assert!(by_number.len() > 60, "the page is not a table any more");
    by_number
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The tests of this directory, with the cures that their text names.
fn told() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut told = BTreeMap::new();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/races")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for test in text.split("#[test]\nfn ").skip(1) {
            let name = test.split_once('(').unwrap().0.to_owned();
            let body = test.split_once("\n}\n").unwrap().0;
            let named = |cure: &&&str| {
                let shared = body.contains("AGAINST_LOST_BATCHES")
                    && AGAINST_LOST_BATCHES
                        .iter()
                        .flat_map(|set| set.iter())
                        .any(|of| of.describe().0 == **cure);
                shared || body.split("Cure::").skip(1).any(|rest| word(rest) == **cure)
            };
            if number(&name).is_some() {
                let names: Vec<&str> = Cure::ALL.iter().map(|cure| cure.describe().0).collect();
                told.insert(name, names.iter().filter(named).copied().collect());
            }
        }
    }
    told
}

fn word(text: &str) -> &str {
    text.split(|char: char| !char.is_alphanumeric()).next().unwrap()
}

fn number(test: &str) -> Option<u32> {
    test.strip_prefix('r')?.split_once('_')?.0.parse().ok()
}
