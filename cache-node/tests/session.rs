//! Random conversations: the node says what an obvious model says, however they are cut.

mod model;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    #[test]
    fn the_node_says_what_the_model_says(
        choices in proptest::collection::vec(0_u8..45, 0..40),
        cuts in proptest::collection::vec(0_usize..1000, 0..4),
    ) {
        model::check(&model::request(&choices), &cuts);
    }
}
