//! Which operations the load consists of.

use std::fmt;
use std::str::FromStr;

/// What one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// getData of a random znode.
    Get,
    /// setData of a random znode.
    Set,
    /// create below the session's own znode.
    Create,
}

impl Operation {
    pub(super) const ALL: [Operation; 3] = [Operation::Get, Operation::Set, Operation::Create];

    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Set => "set",
            Operation::Create => "create",
        }
    }
}

/// Percentages of get, set and create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    get: u8,
    set: u8,
    create: u8,
}

impl Mix {
    /// The operation for a number below 100.
    pub(super) fn choose(self, percent: u8) -> Operation {
        if percent < self.get {
            Operation::Get
        } else if percent < self.get + self.set {
            Operation::Set
        } else {
            Operation::Create
        }
    }

    /// Whether znodes are created.
    pub(super) fn creates(self) -> bool {
        self.create > 0
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mix = match text {
            "get" => [100, 0, 0],
            "set" => [0, 100, 0],
            "create" => [0, 0, 100],
            _ => {
                let parts: Option<Vec<u8>> = text.split('/').map(|part| part.parse().ok()).collect();
                match parts.as_deref() {
                    Some(&[get, set]) => [get, set, 0],
                    Some(&[get, set, create]) => [get, set, create],
                    _ => return Err("expected get, set, create, or percentages such as 90/10".into()),
                }
            }
        };
        if mix.iter().map(|&percent| u32::from(percent)).sum::<u32>() != 100 {
            return Err("percentages must add up to 100".into());
        }
        let [get, set, create] = mix;
        Ok(Mix { get, set, create })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.get, self.set, self.create) {
            (100, 0, 0) => f.write_str("get"),
            (0, 100, 0) => f.write_str("set"),
            (0, 0, 100) => f.write_str("create"),
            (get, set, 0) => write!(f, "{get}/{set}"),
            (get, set, create) => write!(f, "{get}/{set}/{create}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_percent_has_its_operation() {
        let count = |mix: &str, operation| {
            let mix: Mix = mix.parse().unwrap();
            (0..100).filter(|&percent| mix.choose(percent) == operation).count()
        };
        for (mix, [get, set, create]) in [
            ("get", [100, 0, 0]),
            ("set", [0, 100, 0]),
            ("create", [0, 0, 100]),
            ("90/10", [90, 10, 0]),
            ("50/30/20", [50, 30, 20]),
        ] {
            assert_eq!(count(mix, Operation::Get), get);
            assert_eq!(count(mix, Operation::Set), set);
            assert_eq!(count(mix, Operation::Create), create);
        }
    }

    #[test]
    fn percentages_add_up() {
        for bad in ["", "100", "50/51", "200/200/112", "50/40", "1/2/3/94", "a/b"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }
}
