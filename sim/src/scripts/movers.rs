//! Somebody has groups led by others: by this member or that one, or by who is none. Nothing may be lost by it, and nobody must be led by
//! who cannot.

use drey_core::request::{Operation, Reply};
use drey_core::{Error, GroupId, NodeId};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::rng::Rng;

/// It takes so many turns, on average, until the next.
const EVERY: u64 = 300;

/// The one who does that.
pub struct Movers {
    rng: Rng,
    groups: u32,
    /// Ids up to this.
    ids: u64,
    asked: Vec<Option<(GroupId, NodeId)>>,
}

impl Movers {
    /// Nothing asked yet.
    pub fn new(plan: &Plan) -> Movers {
        let rng = Rng::stream(plan.seed, "movers", 0);
        Movers { rng, groups: plan.groups, ids: plan.hosts() as u64 + 1, asked: vec![None; plan.asks.movers] }
    }

    fn move_it(&mut self) -> (GroupId, NodeId) {
        (GroupId(self.rng.between(0, u64::from(self.groups)) as u32), NodeId(self.rng.between(1, self.ids)))
    }
}

impl Script for Movers {
    fn next(&mut self, client: usize, _: &Scene<'_>) -> Option<Ask> {
        if self.rng.below(EVERY) > 0 {
            return None;
        }
        let (group, to) = self.move_it();
        self.asked[client] = Some((group, to));
        Some(Ask::any(Operation::Transfer(group, to)))
    }

    fn answered(&mut self, client: usize, answer: Answer<'_>, _: Place, _: &Scene<'_>) -> Result<(), Violation> {
        let Some(asked) = self.asked[client].take() else { return Err(misfit("nothing", answer)) };
        match answer {
            Answer::Reply(Reply::Done) | Answer::Error(Error::NotFound(_)) | Answer::Refused | Answer::Unknown => {
                Ok(())
            }
            _ => Err(misfit(format!("{asked:?}"), answer)),
        }
    }

    fn looks(&self) -> usize {
        0
    }

    fn look(&self, _: usize) -> Operation {
        Operation::Status
    }

    fn looked(&mut self, _: usize, _: &Reply) -> Result<(), Violation> {
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}
