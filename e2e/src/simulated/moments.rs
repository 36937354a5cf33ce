//! Moments that nobody chose, the same ones again for the same seed. Waits for none.

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Names the seed of a run that is to be repeated.
const SEED: &str = "KATONIC_E2E_SEED";

/// Moments in the order in which they are asked for.
#[derive(Clone, Debug)]
pub struct Moments(u64);

impl Moments {
    /// Of the seed that the environment names, else of any. It is printed, which a test that fails shows.
    ///
    /// # Errors
    /// When the environment names something else than a number.
    pub fn of_any_seed() -> Result<Self> {
        let seed = match env::var(SEED) {
            Ok(seed) => seed
                .parse()
                .with_context(|| format!("{SEED} is {seed:?}: set it to a number or to nothing"))?,
            Err(_) => RandomState::new().hash_one(()),
        };
        eprintln!("the same moments again: {SEED}={seed}");
        Ok(Self(seed))
    }

    /// Others, for something that happens at the same time.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.number())
    }

    /// The next one, within so long.
    pub fn next(&mut self, longest: Duration) -> Duration {
        let [part, other, ..] = self.number().to_le_bytes();
        longest * u32::from(u16::from_le_bytes([part, other])) / (1 << 16)
    }

    /// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_moments_again_and_they_differ() {
        const LONGEST: Duration = Duration::from_secs(1);
        let take = |seed| {
            let mut moments = Moments(seed);
            [(); 50].map(|()| moments.next(LONGEST))
        };
        let moments = take(7);
        assert_eq!(moments, take(7));
        let mut one = Moments(7);
        assert_ne!(one.split().next(LONGEST), one.split().next(LONGEST));
        assert_ne!(moments, take(8));
        assert!(moments.iter().all(|moment| *moment < LONGEST));
        let early = moments.iter().filter(|moment| **moment < LONGEST / 2);
        assert!((10..=40).contains(&early.count()), "{moments:?}");
    }
}
