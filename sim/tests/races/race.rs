//! [`race`]: a story is told with every cure on, and must end well; then with its cures off, and must
//! end badly. A story that ends well without its cure proves nothing about it.

use schemas::cure::Cure;

/// How a story ends: `Err` says which promise was broken.
pub(crate) type Ending = Result<(), String>;

/// A lane that began anew at the head would leave the node with a hole: each of these is enough against that.
pub(crate) const AGAINST_LOST_BATCHES: [&[Cure]; 2] = [
    &[Cure::LaneResumesAtNodeCursor, Cure::BatchAsksFrom],
    &[Cure::LaneResumesAtNodeCursor, Cure::LaneRewinds],
];

/// Tells `story` with every cure, and without each of `needed`. Where several cures cover one hole they stand together:
/// the story ends badly without all of them, and well as long as one is there.
pub(crate) fn race(needed: &[&[Cure]], story: impl Fn() -> Ending) {
    assert_eq!(story(), Ok(()), "with every cure");
    for &together in needed {
        let ending = Cure::all_off(together, &story);
        assert!(ending.is_err(), "ends well without {together:?}: the story does not need them");
        for one in together.iter().filter(|_| together.len() > 1) {
            let others: Vec<Cure> = together.iter().copied().filter(|cure| cure != one).collect();
            assert_eq!(Cure::all_off(&others, &story), Ok(()), "{one:?} alone must be enough");
        }
    }
}

/// Whether someone outside of our parts keeps what is asked of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// As the manual says.
    Kept,
    /// As people do.
    Broken,
}

/// Tells a story whose cure is in the hands of applications or operators: well if they keep their promise, badly if not.
pub(crate) fn promise(story: impl Fn(Promise) -> Ending) {
    assert_eq!(story(Promise::Kept), Ok(()), "with the promise kept");
    assert!(story(Promise::Broken).is_err(), "ends well although the promise is broken");
}

/// An ending: `Err` with the words if the condition is true.
macro_rules! broken_if {
    ($bad:expr, $what:literal) => {
        if $bad { Err(($what).to_owned()) } else { Ok(()) }
    };
}
pub(crate) use broken_if;
