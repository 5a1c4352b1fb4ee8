//! Random work, restarts and segment sizes, against the model.

use ostler_storage::LogOptions;
use proptest::prelude::*;

use crate::support::{Driver, Step};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn the_log_agrees_with_the_model(
        seed in any::<u64>(),
        runs in proptest::collection::vec((1usize..60, 1u64..5, any::<bool>()), 1..5),
    ) {
        let mut driver = Driver::new(seed, LogOptions::with_segment_bytes(4096));
        for (steps, pages, power_cut) in runs {
            // Segments of another size than the ones that exist are no obstacle.
            driver.options = LogOptions::with_segment_bytes(pages * 4096);
            prop_assert_eq!(driver.open(), Step::Done);
            for _ in 0..steps {
                prop_assert_eq!(driver.step(), Step::Done);
            }
            driver.log = None;
            if power_cut {
                driver.disk.power_cut(seed);
            }
        }
        prop_assert_eq!(driver.open(), Step::Done);
        prop_assert_eq!(driver.open(), Step::Done);
    }
}
