//! A list of everything that was said.

use proptest::{collection::vec, prelude::*, sample::select};

use super::check;
use crate::rules::floors::{CUTS_MAX, Floors, PREFIXES_MAX};
use schemas::{cure::Cure, version::Version};

#[derive(Clone, Debug)]
enum Said {
    Floor(Version),
    Prefix(String, Version),
    Cut(Version, u16),
}

fn any_version() -> impl Strategy<Value = Version> {
    (0..6_u16, 0..4_u64).prop_map(|(epoch, sequence)| Version::new(epoch, sequence).unwrap())
}

fn said() -> impl Strategy<Value = Said> {
    let prefix = select(vec!["", "a", "ab", "b", "abc"]).prop_map(str::to_owned);
    prop_oneof![
        1 => any_version().prop_map(Said::Floor),
        3 => (prefix, any_version()).prop_map(|(prefix, at)| Said::Prefix(prefix, at)),
        2 => (any_version(), 1..6_u16).prop_map(|(from, epoch)| Said::Cut(from, epoch)),
    ]
}

#[test]
fn an_entry_is_a_miss_if_something_says_so() {
    let cures = [Cure::ServeAsksPrefixFloor, Cure::ServeAsksCuts, Cure::CutReachesOlderEpochs];
    check(&vec(said(), 0..40), &cures, |all| agrees(&all));
}

#[test]
fn too_many_prefixes_make_more_misses_and_not_fewer() {
    let many = (0..PREFIXES_MAX + 20).map(|at| Said::Prefix(format!("p{at}"), version_of(at)));
    let many: Vec<Said> = many.collect();
    agrees(&many).unwrap();
    let mut floors = Floors::default();
    for said in &many {
        apply(&mut floors, said);
    }
    for (at, said) in many.iter().enumerate() {
        let Said::Prefix(prefix, _) = said else { continue };
        assert!(floors.of(prefix.as_bytes()) >= version_of(at), "{prefix}");
    }
}

fn version_of(at: usize) -> Version {
    Version::new(1, u64::try_from(at).unwrap()).unwrap()
}

fn agrees(all: &[Said]) -> Result<(), TestCaseError> {
    let mut floors = Floors::default();
    let (mut cuts, mut prefixes) = (0, 0);
    for (at, said) in all.iter().enumerate() {
        apply(&mut floors, said);
        cuts += usize::from(matches!(said, Said::Cut(..)));
        prefixes += usize::from(matches!(said, Said::Prefix(..)));
        let exact = cuts <= CUTS_MAX && prefixes <= PREFIXES_MAX;
        for key in ["a", "ab", "abcd", "b", "c"] {
            for (epoch, sequence) in (0..6_u16).flat_map(|epoch| (0..4).map(move |of| (epoch, of)))
            {
                let filled = Version::new(epoch, sequence).unwrap();
                let miss = filled < floors.of(key.as_bytes()) || floors.is_lost(filled);
                let meant = all[..=at].iter().any(|said| covers(said, key, filled));
                prop_assert!(miss || !meant, "{key} of {filled} is served");
                prop_assert!(miss == meant || !exact, "{key} of {filled} is a miss for nothing");
            }
        }
    }
    Ok(())
}

fn apply(floors: &mut Floors, said: &Said) {
    match said {
        Said::Floor(version) => floors.raise(*version),
        Said::Prefix(prefix, version) => floors.raise_prefix(prefix.as_bytes(), *version),
        Said::Cut(from, epoch) => floors.cut(*from, *epoch),
    }
}

fn covers(said: &Said, key: &str, filled: Version) -> bool {
    match said {
        Said::Floor(version) => filled < *version,
        Said::Prefix(prefix, version) => key.starts_with(prefix.as_str()) && filled < *version,
        Said::Cut(from, epoch) => *from <= filled && filled < Version::new(*epoch, 0).unwrap(),
    }
}
