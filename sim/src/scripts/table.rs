//! A table of more rows than a page of a scan has: some clients write a few of its rows at a time, or scan all of it, page by page, while
//! others write. All pages of a scan are of one view: together they must show the one state whose version they name. To the checkers
//! the table is an object of many keys, too large for a search, whose scans can be judged without one ([`crate::checker::scans`]).
//!
//! Some scans leave out the values, or stop after so many rows. A scan lives as long as the process that has its view, and may be ended
//! by it: then the client begins another. Now and then it is the client that ends it: then it is over.

use std::collections::BTreeSet;

use bytes::Bytes;
use drey_core::name::{BucketName, Key, KeyRange};
use drey_core::placement::group_of;
use drey_core::request::{BatchOp, Command, Operation, Page, ReadMode, ReadOp, Reply, Write};
use drey_core::{Error, GroupId, ViewId};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::{Violation, model, scans, versions};
use crate::history::{ABSENT, Call, Found, History, ObjectId, Operation as Recorded, Outcome, Slot, Step, ValueId};
use crate::plan::Plan;
use crate::rng::Rng;

/// Rows: more than a page has.
const ROWS: usize = drey_core::limits::SCAN_PAGE_ENTRIES_MAX + 80;
/// So many keys begin with one another: a page may end among them.
const CHAIN: usize = 4;
/// So many rows are written at a time until all are there.
const FILLED_AT_A_TIME: usize = 300;
/// Thereafter, at most.
const WRITTEN_MAX: u64 = 8;

/// How a table is scanned.
#[derive(Clone, Copy, Debug, Default)]
struct How {
    reverse: bool,
    keys_only: bool,
    /// 0: all of it.
    limit: u64,
}

/// What a client is at.
#[derive(Clone, Debug)]
enum State {
    Idle,
    Writing {
        recorded: usize,
        rows: Vec<Slot>,
    },
    /// A scan, and what came of it.
    Scanning {
        recorded: usize,
        how: How,
        page: Option<Scanned>,
    },
    /// It ends a scan.
    Ending(usize, ViewId),
    /// It has, and tries to go on all the same.
    Ended(usize, ViewId),
}

/// The pages that came.
#[derive(Clone, Debug)]
struct Scanned {
    host: usize,
    view: Option<ViewId>,
    version: u64,
    found: Vec<Found>,
    last: Option<Slot>,
    rows: u64,
    /// When the first came: what is asked for later is in none.
    returned: (u64, u64),
}

/// The table.
pub struct Table {
    rng: Rng,
    bucket: BucketName,
    group: GroupId,
    states: Vec<State>,
    /// Of each row, whether it was written.
    filled: Vec<bool>,
    values: ValueId,
    /// Its writes and scans, as those of one object.
    pub history: History,
    /// Which of them are scans without values.
    keys_only: BTreeSet<usize>,
    /// Scans of which all pages came.
    pub scans: usize,
}

impl Table {
    /// It is empty.
    pub fn new(plan: &Plan, buckets: &[BucketName]) -> Table {
        let mut rng = Rng::stream(plan.seed, "table", 0);
        let bucket = rng.pick(buckets).clone();
        let group = group_of(&bucket, plan.groups);
        let history = History {
            operations: Vec::new(),
            groups: vec![group],
            names: vec![vec![format!("{bucket}/row-")]],
            own_buckets: vec![false],
        };
        let states = vec![State::Idle; plan.asks.tables];
        Table {
            rng,
            bucket,
            group,
            states,
            filled: vec![false; ROWS],
            values: 0,
            history,
            keys_only: BTreeSet::new(),
            scans: 0,
        }
    }

    fn draw_steps(&mut self) -> Vec<Step> {
        let mut rows: Vec<Slot> = (0..ROWS).filter(|&row| !self.filled[row]).take(FILLED_AT_A_TIME).collect();
        if rows.is_empty() {
            rows = (0..self.rng.between(1, WRITTEN_MAX)).map(|_| self.rng.below(ROWS as u64) as usize).collect();
            rows.sort_unstable();
            rows.dedup();
        }
        let fills = rows.len() > WRITTEN_MAX as usize;
        let step = |row| {
            if !fills && self.rng.chance(200) {
                return Step::Delete(row);
            }
            self.values += 1;
            Step::Put(row, self.values)
        };
        rows.into_iter().map(step).collect()
    }

    fn write(&self, steps: &[Step]) -> Operation {
        let op = |step: &Step| match *step {
            Step::Put(row, value) => {
                BatchOp::Put { key: key(row), value: Bytes::copy_from_slice(&value.to_le_bytes()), ttl_ms: None }
            }
            Step::Delete(row) => BatchOp::Delete { key: key(row) },
            Step::Get(row) => BatchOp::Get { key: key(row) },
        };
        let write = Write::Batch { ops: steps.iter().map(op).collect() };
        Operation::Write(Command { bucket: self.bucket.clone(), id: None, write })
    }

    fn draw_scan(&mut self) -> How {
        let limit = if self.rng.chance(250) { self.rng.between(1, ROWS as u64) } else { 0 };
        // What a scan from the end leaves out is at the beginning.
        How { reverse: limit == 0 && self.rng.chance(500), keys_only: self.rng.chance(250), limit }
    }

    fn scan(&self, how: How) -> ReadOp {
        let How { reverse, keys_only, limit } = how;
        let range = KeyRange::prefix(Bytes::from_static(b"row-")).expect("a short prefix");
        ReadOp::Scan { bucket: self.bucket.clone(), range, limit, reverse, keys_only }
    }

    fn ask_view(&self, host: usize, op: ReadOp) -> Ask {
        Ask { operation: Operation::Read(self.group, ReadMode::Local, op), host: Some(host) }
    }

    fn record(&mut self, client: usize, call: Call, scene: &Scene<'_>) -> usize {
        self.history.operations.push(Recorded {
            object: ObjectId(0),
            client,
            node: 0,
            process: None,
            call,
            called: scene.event,
            returned: u64::MAX,
            outcome: Outcome::Unknown,
            called_ms: scene.ms,
            returned_ms: u64::MAX,
        });
        self.history.operations.len() - 1
    }

    fn settle(&mut self, recorded: usize, outcome: Outcome, (returned, returned_ms): (u64, u64)) {
        let operation = &mut self.history.operations[recorded];
        (operation.outcome, operation.returned, operation.returned_ms) = (outcome, returned, returned_ms);
    }

    fn written(&mut self, (recorded, rows): (usize, Vec<Slot>), answer: Answer<'_>, scene: &Scene<'_>) -> Option<()> {
        let outcome = match answer {
            Answer::Reply(Reply::Batch { version, results }) if results.len() == rows.len() => {
                rows.into_iter().for_each(|row| self.filled[row] = true);
                let results = results.iter().map(|result| (result.affected, None)).collect();
                Outcome::Batch { version: version.0, results }
            }
            Answer::Refused => Outcome::Refused,
            Answer::Unknown => Outcome::Unknown,
            _ => return None,
        };
        self.settle(recorded, outcome, (scene.event, scene.ms));
        Some(())
    }

    /// One more page. What the client is at then; none: such a page cannot come.
    fn page(
        &mut self,
        (recorded, how, before): (usize, How, Option<Scanned>),
        page: &Page,
        host: usize,
        scene: &Scene<'_>,
    ) -> Option<State> {
        let mut scanned = before.unwrap_or_else(|| Scanned {
            host,
            view: None,
            version: page.version.0,
            found: vec![None; ROWS],
            last: None,
            rows: 0,
            returned: (scene.event, scene.ms),
        });
        for entry in &page.entries {
            let row = row_of(&entry.key)?;
            let in_order = scanned.last.is_none_or(|last| if how.reverse { row < last } else { row > last });
            let value = match how.keys_only {
                true if entry.value.is_empty() => ABSENT,
                true => return None,
                false => ValueId::from_le_bytes(*entry.value.as_array()?),
            };
            if !in_order || (!how.keys_only && !(1..=self.values).contains(&value)) {
                return None;
            }
            scanned.found[row] = Some((value, entry.version.0));
            scanned.last = Some(row);
            scanned.rows += 1;
        }
        let is_cut = page.more && page.next.is_none() && scanned.rows == how.limit;
        if scanned.version != page.version.0 || page.more != is_cut || (how.limit > 0 && scanned.rows > how.limit) {
            return None;
        }
        if is_cut {
            // Of what is behind the last row nothing is said.
            scanned.found.truncate(scanned.last? + 1);
        }
        scanned.view = page.next;
        if page.next.is_some() {
            return Some(State::Scanning { recorded, how, page: Some(scanned) });
        }
        self.scans += 1;
        let Scanned { found, version, returned, .. } = scanned;
        self.settle(recorded, Outcome::Scanned { found, version }, returned);
        Some(State::Idle)
    }
}

impl Script for Table {
    fn next(&mut self, client: usize, scene: &Scene<'_>) -> Option<Ask> {
        if let State::Scanning { page: Some(Scanned { host, view: Some(view), .. }), .. } = &self.states[client] {
            let (host, view) = (*host, *view);
            if self.rng.chance(150) {
                self.states[client] = State::Ending(host, view);
                return Some(self.ask_view(host, ReadOp::ScanEnd { view }));
            }
            return Some(self.ask_view(host, ReadOp::ScanNext { view }));
        }
        if let State::Ended(host, view) = self.states[client] {
            return Some(self.ask_view(host, ReadOp::ScanNext { view }));
        }
        if self.filled.contains(&false) || self.rng.chance(600) {
            let steps = self.draw_steps();
            let operation = self.write(&steps);
            let rows = steps.iter().map(|step| row_written(*step)).collect();
            let recorded = self.record(client, Call::Batch(steps), scene);
            self.states[client] = State::Writing { recorded, rows };
            return Some(Ask::any(operation));
        }
        let how = self.draw_scan();
        let recorded = self.record(client, Call::Scan, scene);
        if how.keys_only {
            self.keys_only.insert(recorded);
        }
        self.states[client] = State::Scanning { recorded, how, page: None };
        Some(Ask::any(Operation::Read(self.group, ReadMode::Linearizable, self.scan(how))))
    }

    fn answered(
        &mut self,
        client: usize,
        answer: Answer<'_>,
        place: Place,
        scene: &Scene<'_>,
    ) -> Result<(), Violation> {
        let answer = answer.before_buckets();
        let misfits = |state: &str| Err(misfit(format!("{state} of a table"), answer));
        match std::mem::replace(&mut self.states[client], State::Idle) {
            State::Writing { recorded, rows } => match self.written((recorded, rows), answer, scene) {
                Some(()) => Ok(()),
                None => misfits("a write"),
            },
            State::Scanning { recorded, how, page } => match answer {
                // With the process its connections end, and nobody hears the rest.
                _ if !place.same_process && page.is_some() => Ok(()),
                Answer::Reply(Reply::Page(next)) => match self.page((recorded, how, page), next, place.host, scene) {
                    Some(state) => {
                        self.states[client] = state;
                        Ok(())
                    }
                    None => Err(Violation::new(scans::LAW, format!("this cannot be the next page: {next:?}"))),
                },
                Answer::Refused | Answer::Unknown | Answer::Error(Error::Compacted(_)) => Ok(()),
                _ => misfits("a scan"),
            },
            State::Ending(host, view) => match answer {
                Answer::Reply(Reply::Done) if place.same_process => {
                    self.states[client] = State::Ended(host, view);
                    Ok(())
                }
                // A view that is gone is ended well.
                Answer::Reply(Reply::Done) | Answer::Refused | Answer::Unknown => Ok(()),
                _ => misfits("the end of a scan"),
            },
            State::Ended(..) => match answer {
                Answer::Reply(_) if place.same_process => misfits("a scan that was ended"),
                _ => Ok(()),
            },
            State::Idle => misfits("nothing"),
        }
    }

    fn looks(&self) -> usize {
        0
    }

    fn look(&self, _: usize) -> Operation {
        Operation::Read(self.group, ReadMode::Linearizable, self.scan(How::default()))
    }

    fn looked(&mut self, _: usize, _: &Reply) -> Result<(), Violation> {
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        let mut with_values = self.history.clone();
        let mut place = 0;
        with_values.operations.retain(|_| {
            place += 1;
            !self.keys_only.contains(&(place - 1))
        });
        versions::check(&with_values)?;
        model::Versions::gather(&with_values.operations)
            .map_err(|seen| Violation::new(crate::checker::ONE_VERSION, seen))?;
        scans::check(&self.history)
    }
}

fn key(row: Slot) -> Key {
    Key::new(format!("row-{:05}{:!<2$}", row / CHAIN, "", row % CHAIN)).expect("a good key")
}

fn row_of(key: &[u8]) -> Option<Slot> {
    let name = std::str::from_utf8(key.strip_prefix(b"row-")?).ok()?;
    let chain = name.trim_end_matches('!');
    let row = chain.parse::<Slot>().ok()?.checked_mul(CHAIN)? + name.len() - chain.len();
    (row < ROWS && key == self::key(row).as_bytes()).then_some(row)
}

fn row_written(step: Step) -> Slot {
    match step {
        Step::Put(row, _) | Step::Delete(row) | Step::Get(row) => row,
    }
}
