//! A vote of a person.

/// One vote on two candidates of a prompt, by their places.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    pub winner: usize,
    pub loser: usize,
    pub tie: bool,
    pub voter: String,
}

impl Vote {
    /// Weight of the vote for `i` against `j`: 1, one half of a tie, 0.
    pub fn weight(&self, i: usize, j: usize) -> f64 {
        let is = |a, b| (self.winner, self.loser) == (a, b);
        match (is(i, j), is(j, i), self.tie) {
            (true, _, false) => 1.0,
            (true, _, true) | (_, true, true) => 0.5,
            _ => 0.0,
        }
    }
}
