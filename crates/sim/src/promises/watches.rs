//! An event reaches its client before anything that shows a later state, and none is missed.

/// A client watched somebody's counter: it knew the state of zxid `since`, and up to `until` it was shown more
/// without an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) by: usize,
    pub(crate) counter: usize,
    pub(crate) since: i64,
    pub(crate) until: i64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watched: Vec<Watched>,
    pub(crate) events: u64,
}

impl Watches {
    /// An event has come, or the run is over.
    pub(crate) fn record(&mut self, watched: Watched) {
        self.watched.push(watched);
    }

    /// `changes` are the zxids of what changed a client's counter.
    pub(crate) fn finish(&self, changes: impl Fn(usize) -> Vec<i64>) -> Result<(), String> {
        for watched in &self.watched {
            let &Watched { by, counter, since, until } = watched;
            if let Some(missed) = changes(counter).into_iter().find(|&zxid| since < zxid && zxid <= until) {
                return Err(format!(
                    "client {by}, watching client {counter}'s counter since {since:#x}, was shown {until:#x} before the \
                     event of {missed:#x}"
                ));
            }
        }
        Ok(())
    }
}
