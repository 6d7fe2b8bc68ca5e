//! Many images, on all processors, until one of them must not be; and that one made small.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use posix_model::op::Step;
use posix_model::rng::Rng;
use posix_model::shrink::shrink;

use super::disk::{Event, Image};
use super::judge::{Judges, judge};
use super::medium::{Fate, Fates, Medium};
use super::on_this_thread;
use super::plan::{Limits, Plan, Recording, record};

/// What to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    pub(crate) limits: Limits,
    pub(crate) judges: Judges,
    /// The first workload.
    pub(crate) seed: u64,
    /// Images in total, at most.
    pub(crate) images: u64,
    /// Images of each workload.
    pub(crate) each: u64,
    pub(crate) threads: usize,
    /// Run before anything else on each thread.
    pub(crate) prepare: fn(usize),
    /// Given to `prepare`.
    pub(crate) argument: usize,
}

/// What was tried.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) images: u64,
    pub(crate) workloads: u64,
    /// Images for which at least one write was lost or torn.
    pub(crate) with_losses: u64,
    /// Images of which at least one step was promised.
    pub(crate) with_promises: u64,
}

/// Something that must not be.
pub(crate) struct Failure {
    pub(crate) plan: Plan,
    /// Which image of the workload; `None`: the workload itself went wrong.
    pub(crate) image: Option<u64>,
    pub(crate) reason: String,
}

/// Where the power goes in image `index` of a workload, and what else is random about it.
fn moment(seed: u64, index: u64, events: usize) -> (usize, Rng) {
    let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_0001) ^ index << 20);
    (rng.below(events as u64 + 1) as usize, rng)
}

fn quietly<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// One workload and its images `which`: how many were right, or the first that was not. In the order of the log, so that
/// the medium moves forward only.
fn try_plan(plan: &Plan, judges: Judges, which: &[u64], tally: &mut Tally) -> Result<(), Box<Failure>> {
    let fail = |image, reason| Box::new(Failure { plan: plan.clone(), image, reason });
    let recording = quietly(|| on_this_thread(record(plan))).map_err(|reason| fail(None, reason))?;
    tally.workloads += 1;
    let events = recording.log.events.len();
    let mut moments: Vec<(usize, u64)> =
        which.iter().map(|index| (moment(plan.seed, *index, events).0, *index)).collect();
    moments.sort_unstable();
    let mut medium = Medium::new(&recording.base, &recording.log);
    for (cut, index) in moments {
        let (_, mut rng) = moment(plan.seed, index, events);
        medium.advance(cut);
        let fates = medium.fates(&mut rng);
        tally.images += 1;
        tally.with_losses += u64::from(fates.values().any(|fate| *fate != Fate::Kept));
        tally.with_promises += u64::from(recording.stories.iter().any(|story| story.possible(cut).durable > 0));
        let image = medium.image(&fates);
        judge_quietly(plan, &recording, cut, image, rng, judges).map_err(|reason| fail(Some(index), reason))?;
    }
    Ok(())
}

fn judge_quietly(
    plan: &Plan,
    recording: &Recording,
    cut: usize,
    image: Image,
    rng: Rng,
    judges: Judges,
) -> Result<(), String> {
    quietly(|| on_this_thread(judge(plan, recording, cut, image, rng, judges)))
}

/// Tries images until there are enough, or one is wrong.
pub(crate) fn search(search: Search) -> (Tally, Option<Box<Failure>>) {
    let next = AtomicU64::new(0);
    let total = Mutex::new(Tally::default());
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..search.threads {
            scope.spawn(|| {
                (search.prepare)(search.argument);
                while failure.lock().is_none() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let left = search.images.saturating_sub(number * search.each).min(search.each);
                    if left == 0 {
                        return;
                    }
                    let plan = Plan::new(search.seed + number, search.limits);
                    let which: Vec<u64> = (0..left).collect();
                    let mut tally = Tally::default();
                    let result = try_plan(&plan, search.judges, &which, &mut tally);
                    let mut total = total.lock();
                    total.images += tally.images;
                    total.workloads += tally.workloads;
                    total.with_losses += tally.with_losses;
                    total.with_promises += tally.with_promises;
                    if let Err(found) = result {
                        failure.lock().get_or_insert(found);
                    }
                }
            });
        }
    });
    (total.into_inner(), failure.into_inner())
}

/// Images of each shorter workload that are tried before it counts as right.
const SHRINK_IMAGES: u64 = 100;
/// Shorter workloads that are tried.
const SHRINK_TRIES: usize = 50;

/// A smaller failure: fewer steps, then an earlier cut, then fewer lost writes; as a text that explains it.
pub(crate) fn explain(failure: &Failure, judges: Judges) -> String {
    let seed = failure.plan.seed;
    let mut text = format!("seed {seed}, image {:?}: {}\n", failure.image, failure.reason);
    let plan = fewer_steps(failure, judges);
    text += &format!("\nshortened to {} steps:\n{}", plan.steps(), plan.describe());
    match quietly(|| on_this_thread(record(&plan))) {
        Err(reason) => text += &format!("the workload itself goes wrong: {reason}\n"),
        Ok(recording) => text += &explain_cut(&plan, &recording, judges),
    }
    text
}

fn fewer_steps(failure: &Failure, judges: Judges) -> Plan {
    let plan = &failure.plan;
    let all: Vec<(usize, Step)> = plan
        .workers
        .iter()
        .enumerate()
        .flat_map(|(worker, steps)| steps.iter().map(move |step| (worker, step.clone())))
        .collect();
    let with = |list: &[(usize, Step)]| {
        let steps = |worker| list.iter().filter(|(of, _)| *of == worker).map(|(_, step)| step.clone()).collect();
        let mut shorter = plan.clone();
        shorter.workers = (0..plan.workers.len()).map(steps).collect();
        shorter
    };
    let mut which: Vec<u64> = (0..SHRINK_IMAGES).collect();
    which.extend(failure.image.filter(|image| *image >= SHRINK_IMAGES));
    let fails = |list: &[(usize, Step)]| match try_plan(&with(list), judges, &which, &mut Tally::default()) {
        // A failure of the cut must not become one of the workload, or the other way around.
        Err(found) => found.image.is_some() == failure.image.is_some(),
        Ok(()) => false,
    };
    with(&shrink(all, SHRINK_TRIES, fails))
}

fn explain_cut(plan: &Plan, recording: &Recording, judges: Judges) -> String {
    let events = recording.log.events.len();
    let mut moments: Vec<(usize, u64)> =
        (0..2 * SHRINK_IMAGES).map(|index| (moment(plan.seed, index, events).0, index)).collect();
    moments.sort_unstable();
    let mut medium = Medium::new(&recording.base, &recording.log);
    for (cut, index) in moments {
        let (_, mut rng) = moment(plan.seed, index, events);
        medium.advance(cut);
        let mut fates = medium.fates(&mut rng);
        let judged =
            |fates: &Fates| judge_quietly(plan, recording, cut, medium.image(fates), rng.clone(), judges).err();
        let Some(mut reason) = judged(&fates) else { continue };
        for number in medium.pending() {
            let fewer =
                Fates::from_iter(fates.iter().map(|(at, fate)| (*at, if *at == number { Fate::Kept } else { *fate })));
            if fates != fewer
                && let Some(same) = judged(&fewer)
            {
                (fates, reason) = (fewer, same);
            }
        }
        let block = u64::from(plan.block_bytes);
        let lost: Vec<String> = fates
            .iter()
            .filter(|(_, fate)| **fate != Fate::Kept)
            .map(|(number, fate)| {
                let write = &recording.log.writes[*number];
                format!(
                    "write {number} ({} blocks at {}, {fate:?})",
                    write.data.len() as u64 / block,
                    write.offset / block
                )
            })
            .collect();
        let last: Vec<&Event> = recording.log.events[cut.saturating_sub(6)..cut].iter().collect();
        return format!("cut after event {cut} of {events}, the last ones {last:?}; lost: {lost:?}\n{reason}\n");
    }
    "no cut of it fails any more\n".to_owned()
}
