//! Breadth-first search through everything a model can do.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Debug, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A small world: where it begins, what can happen next, and what must never happen.
pub trait Model {
    /// Everything that decides what can happen next, and what properties must remember.
    type State: Clone + Hash;
    /// One thing that can happen in a state.
    type Action: Copy;
    /// What must hold. [`Display`] says it as a sentence about its breach.
    type Property: Copy + Eq + Debug + Display;

    /// Where every run begins.
    fn initial(&self) -> Self::State;

    /// Adds everything that can happen in `state`.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);

    /// What `state` becomes.
    ///
    /// # Errors
    /// The property that `action` breaks.
    fn step(&self, state: &Self::State, action: Self::Action) -> Result<Self::State, Self::Property>;

    /// Whether `action` is a failure of the environment, which nobody may have to wait for.
    fn is_fault(&self, action: Self::Action) -> bool;

    /// Whether nobody waits for anything. From every state such a state must be reachable without another fault:
    /// else somebody hangs.
    fn is_settled(&self, state: &Self::State) -> bool;

    /// `action` in words, for a trace.
    fn describe(&self, state: &Self::State, action: Self::Action) -> String;
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<P> {
    /// Every reachable state was visited; nothing is broken and nobody hangs.
    Holds,
    /// The property is broken by the last step of the trace.
    Breaks(P),
    /// At the end of the trace somebody waits, and will for ever although nothing fails any more.
    Hangs,
    /// The limit of states was reached before anything broke. Hangs were not looked for.
    Unfinished,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Report<P> {
    /// How it ended.
    pub verdict: Verdict<P>,
    /// States visited.
    pub states: usize,
    /// Steps tried.
    pub transitions: usize,
    /// Steps of the longest run that leads to a new state.
    pub depth: usize,
    /// A shortest run that shows the verdict, in words; empty unless something is broken.
    pub trace: Vec<String>,
}

impl<P: Copy + Eq + Debug + Display> Report<P> {
    /// Demands that nothing is broken.
    ///
    /// # Panics
    /// With the trace, if something is, or if the search did not finish.
    pub fn assert_holds(&self) {
        assert!(self.verdict == Verdict::Holds, "{self}");
    }

    /// Demands that `property` is broken.
    ///
    /// # Panics
    /// If nothing is broken, or something else.
    pub fn assert_breaks(&self, property: P) {
        assert!(self.verdict == Verdict::Breaks(property), "expected {property:?}: {self}");
    }

    /// Demands that somebody can be left waiting.
    ///
    /// # Panics
    /// If nobody can, or something else is broken.
    pub fn assert_hangs(&self) {
        assert!(self.verdict == Verdict::Hangs, "expected that somebody hangs: {self}");
    }
}

impl<P: Display> Display for Report<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Holds => write!(f, "holds")?,
            Verdict::Breaks(property) => write!(f, "broken in {} steps: {property}", self.trace.len())?,
            Verdict::Hangs => write!(f, "after {} steps somebody waits for ever", self.trace.len())?,
            Verdict::Unfinished => write!(f, "nothing broken so far, not finished")?,
        }
        write!(f, " ({} states, {} transitions, depth {})", self.states, self.transitions, self.depth)?;
        for (at, step) in self.trace.iter().enumerate() {
            write!(f, "\n  {:2}. {step}", at + 1)?;
        }
        Ok(())
    }
}

/// How a state was first reached.
#[derive(Clone, Copy)]
struct Origin {
    parent: u32,
    /// Position among the parent's actions.
    action: u16,
}

/// Visits every state that `model` can reach, until something breaks or `limit` states have been visited.
///
/// States are told apart by 128-bit fingerprints: among ten million, the chance that two share one is below
/// 10^-24. Equal models give equal reports.
pub fn search<M: Model>(model: &M, limit: usize) -> Report<M::Property> {
    let initial = model.initial();
    let mut known: HashMap<Fingerprint, u32, BuildHasherDefault<FirstHalf>> = HashMap::default();
    known.insert(fingerprint(&initial), 0);
    let mut origins = vec![Origin { parent: 0, action: 0 }];
    let mut settled = vec![model.is_settled(&initial)];
    // Steps without a fault that leave a state in which somebody waits, in the order of their first state.
    let mut ways_on: Vec<(u32, u32)> = Vec::new();
    let mut layer = vec![(0, initial)];
    let mut actions = Vec::new();
    let mut report =
        Report { verdict: Verdict::Holds, states: 1, transitions: 0, depth: 0, trace: Vec::new() };
    while !layer.is_empty() {
        let mut next_layer = Vec::new();
        for (id, state) in layer {
            actions.clear();
            model.actions(&state, &mut actions);
            for (at, &action) in actions.iter().enumerate() {
                report.transitions += 1;
                let origin = Origin { parent: id, action: number(at) };
                let next = match model.step(&state, action) {
                    Ok(next) => next,
                    Err(property) => {
                        report.verdict = Verdict::Breaks(property);
                        report.states = origins.len();
                        report.trace = trace(model, &origins, origin);
                        return report;
                    }
                };
                let next_id = match known.entry(fingerprint(&next)) {
                    Entry::Occupied(entry) => *entry.get(),
                    Entry::Vacant(entry) => {
                        let next_id = number(origins.len());
                        entry.insert(next_id);
                        origins.push(origin);
                        settled.push(model.is_settled(&next));
                        next_layer.push((next_id, next));
                        next_id
                    }
                };
                if !settled[id as usize] && !model.is_fault(action) {
                    ways_on.push((id, next_id));
                }
            }
            if origins.len() > limit {
                report.verdict = Verdict::Unfinished;
                report.states = origins.len();
                return report;
            }
        }
        layer = next_layer;
        report.depth += usize::from(!layer.is_empty());
    }
    report.states = origins.len();
    if let Some(hung) = first_hung(&mut settled, &ways_on) {
        report.verdict = Verdict::Hangs;
        if hung != 0 {
            report.trace = trace(model, &origins, origins[hung]);
        }
    }
    report
}

/// The first state from which no settled one can be reached. Afterwards `hopeful` tells from which ones it can.
fn first_hung(hopeful: &mut [bool], ways_on: &[(u32, u32)]) -> Option<usize> {
    // Most ways lead to later states, so going backwards needs few rounds.
    let mut changed = true;
    while changed {
        changed = false;
        for &(from, to) in ways_on.iter().rev() {
            if hopeful[to as usize] && !hopeful[from as usize] {
                hopeful[from as usize] = true;
                changed = true;
            }
        }
    }
    hopeful.iter().position(|hopeful| !hopeful)
}

/// The run that ends with `last`, in words.
fn trace<M: Model>(model: &M, origins: &[Origin], last: Origin) -> Vec<String> {
    let mut way = vec![last];
    while let Some(&Origin { parent, .. }) = way.last()
        && parent != 0
    {
        way.push(origins[parent as usize]);
    }
    let mut state = model.initial();
    let mut words = Vec::new();
    for Origin { action, .. } in way.into_iter().rev() {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let action = actions[usize::from(action)];
        words.push(model.describe(&state, action));
        if let Ok(next) = model.step(&state, action) {
            state = next;
        }
    }
    words
}

fn number<N: TryFrom<usize>>(count: usize) -> N {
    N::try_from(count).ok().expect("a model has fewer states than 2^32 and fewer actions in each than 2^16")
}

type Fingerprint = (u64, u64);

/// Two states with the same fingerprint are taken for one.
pub(crate) fn fingerprint(state: &impl Hash) -> Fingerprint {
    let mut hasher = Mixer(0x6a09_e667_f3bc_c908_bb67_ae85_84ca_a73b);
    state.hash(&mut hasher);
    ((hasher.0 >> 64) as u64, hasher.0 as u64)
}

/// A 128-bit hash without a seed: multiply by an odd number, fold the upper bits into the lower ones.
struct Mixer(u128);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ u128::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = mixed ^ (mixed >> 67);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// Fingerprints are hashes already: the map takes their first half.
#[derive(Default)]
struct FirstHalf(u64);

impl Hasher for FirstHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is two u64")
    }

    fn write_u64(&mut self, value: u64) {
        // The second half, xored in, keeps the result as good as the first.
        self.0 ^= value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody walks from 0 and wants to be at 9. A fault throws them into a pit.
    struct Walk {
        pit: Option<u8>,
        wall: Option<u8>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct FellOff;

    impl Display for FellOff {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "beyond 9")
        }
    }

    #[derive(Clone, Copy)]
    enum Move {
        By(u8),
        Fall,
    }

    impl Model for Walk {
        type State = u8;
        type Action = Move;
        type Property = FellOff;

        fn initial(&self) -> u8 {
            0
        }

        fn actions(&self, &state: &u8, actions: &mut Vec<Move>) {
            if state < 9 {
                actions.extend([Move::By(1), Move::By(3)]);
                actions.extend(self.pit.filter(|&pit| pit == state).map(|_| Move::Fall));
            }
        }

        fn step(&self, &state: &u8, action: Move) -> Result<u8, FellOff> {
            match action {
                Move::Fall => Ok(100),
                Move::By(by) if self.wall.is_some_and(|wall| state + by > wall) => Err(FellOff),
                Move::By(by) => Ok((state + by).min(9)),
            }
        }

        fn is_fault(&self, action: Move) -> bool {
            matches!(action, Move::Fall)
        }

        fn is_settled(&self, &state: &u8) -> bool {
            state == 9
        }

        fn describe(&self, state: &u8, action: Move) -> String {
            match action {
                Move::By(by) => format!("{state}+{by}"),
                Move::Fall => format!("{state} falls"),
            }
        }
    }

    #[test]
    fn everything_is_visited_once() {
        let report = search(&Walk { pit: None, wall: None }, 1_000);
        report.assert_holds();
        assert_eq!((report.states, report.transitions, report.depth), (10, 18, 4));
    }

    #[test]
    fn the_shortest_way_to_a_breach_is_told() {
        let report = search(&Walk { pit: None, wall: Some(7) }, 1_000);
        report.assert_breaks(FellOff);
        assert_eq!(report.trace, ["0+3", "3+3", "6+3"]);
    }

    #[test]
    fn who_cannot_go_on_hangs() {
        let report = search(&Walk { pit: Some(4), wall: None }, 1_000);
        report.assert_hangs();
        assert_eq!(report.trace, ["0+1", "1+3", "4 falls"]);
    }

    #[test]
    fn a_limit_is_not_a_success() {
        let report = search(&Walk { pit: None, wall: None }, 3);
        assert_eq!(report.verdict, Verdict::Unfinished);
    }
}
