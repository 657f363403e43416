//! Reproducible randomness: one seed gives one run's choices (not its timing).

/// SplitMix64: small, fast, and good enough to choose what a shop's customers do.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator; `stream` tells those of one seed apart.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random { state: seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95) };
        random.bits(); // Near seeds begin far apart.
        random
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Less than `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        self.bits() % bound
    }

    /// Whether one of `of` cases came up.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// From 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.bits() >> 32).unwrap_or(0);
        f64::from(bits) / 4_294_967_296.0
    }
}

/// Ranks with a skew like that of real traffic: rank r comes up in proportion to 1 / (r + 1), or to a power of that.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Ascending; the last one is the total weight.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Over ranks 0 up to, not including, `ranks`, which must not be 0.
    pub fn new(ranks: u32) -> Zipf {
        Zipf::with_skew(ranks, 1.0)
    }

    /// Likewise, in proportion to 1 / (r + 1) to the power of `skew`.
    pub fn with_skew(ranks: u32, skew: f64) -> Zipf {
        assert!(ranks > 0, "there must be something to choose from");
        let mut total = 0.0;
        let weight = |rank: u32| (f64::from(rank) + 1.0).powf(-skew);
        let cumulative = (0..ranks).map(|rank| {
            total += weight(rank);
            total
        });
        Zipf { cumulative: cumulative.collect() }
    }

    /// A rank.
    pub fn rank(&self, random: &mut Random) -> u32 {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let point = random.unit() * total;
        let rank = self.cumulative.partition_point(|&upper| upper <= point);
        let last = self.cumulative.len().saturating_sub(1);
        u32::try_from(rank.min(last)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_streams_differ() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..8).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn low_ranks_come_up_more_often() {
        let zipf = Zipf::new(100);
        let mut random = Random::new(1, 1);
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[zipf.rank(&mut random) as usize] += 1;
        }
        // The harmonic number of 100 is 5.19: rank 0 has 19 % of the draws, rank 99 0.19 %.
        assert!((18_000..21_000).contains(&counts[0]), "{}", counts[0]);
        assert!((8_500..10_500).contains(&counts[1]), "{}", counts[1]);
        assert!((100..300).contains(&counts[99]), "{}", counts[99]);
    }
}
