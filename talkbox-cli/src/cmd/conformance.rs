//! `talkbox conformance`: the conformance kit against a backend of this program, as it is configured.

use std::sync::Arc;

use serde_json::json;
use talkbox_core::{
    OpenContext,
    config::Member,
    memory,
    testkit::{CaseReport, CaseResult, Harness, LiveHarness, MemoryHarness, case_list},
};

use crate::{
    exit::{Code, Failure, Outcome},
    output::{BAD, BOLD, DIM, GOOD, align},
    scratch::Scratch,
    session::Session,
    text::one_line,
};

/// The columns: as wide as the longest name of a case, since each is printed when it is done.
const WIDTHS: [usize; 3] = [42, 8, 8];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every case makes keys of its own and deletes nothing that it did not write, so that it may run on a \
                        network in use. What the backend or this program cannot do is skipped and says so. Any failure \
                        ends in exit code 1."
)]
pub(crate) struct Arguments {
    /// Only the cases whose names contain this
    #[arg(value_name = "CASE")]
    filter: Option<String>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    session.require_network()?;
    let plan = session.config.plan(&session.registry)?;
    let scratch = Scratch::new("conformance")?;
    let mut tally = Tally::default();
    for member in plan.members() {
        let harness = harness(session, member, &scratch);
        if !session.output.is_json() {
            let head = align(&["CASE", "RESULT", "TIME"].map(str::to_owned), &WIDTHS);
            session.output.line(format_args!("{BOLD}{head}{BOLD:#}  (backend `{}`)", member.name))?;
        }
        let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|filter| name.contains(filter));
        for case in case_list().iter().filter(|case| wanted(case.name)) {
            session.output.progress(format_args!("{} …", case.name));
            let report = case.check(&*harness).await;
            session.output.progress_done();
            tally.count(&report);
            tell(session, member, &report)?;
        }
    }
    tally.end(session)
}

/// What opens the backend for the owner, the sender and the stranger of a case, each with a folder of its own.
fn harness(session: &Session, member: &Member, scratch: &Scratch) -> Box<dyn Harness> {
    if member.def.name == memory::SCHEME {
        // Three of these would be three networks: the kit's own harness puts them on one.
        return Box::new(MemoryHarness::new());
    }
    let (member, folder) = (member.clone(), scratch.path().to_owned());
    let (clock, allow_private) = (Arc::clone(&session.clock), session.config.allow_private());
    let proxy = session.config.proxy().cloned();
    Box::new(LiveHarness::new(move |role| {
        let mut context = OpenContext::new(member.name.clone());
        context.clock = Arc::clone(&clock);
        context.data_dir = Some(folder.join(&member.name).join(role.as_str()));
        context.allow_private = allow_private;
        context.proxy = proxy.clone();
        (member.def.open)(member.config.clone(), context)
    }))
}

fn tell(session: &Session, member: &Member, report: &CaseReport) -> Outcome<()> {
    let output = &session.output;
    let ms = report.took.as_millis();
    if output.is_json() {
        return output.object(&json!({
            "backend": member.name,
            "case": report.name,
            "result": report.result,
            "detail": report.detail,
            "ms": u64::try_from(ms).unwrap_or(u64::MAX),
        }));
    }
    let (style, word) = match report.result {
        CaseResult::Passed => (GOOD, "passed"),
        CaseResult::Skipped => (DIM, "skipped"),
        CaseResult::Failed => (BAD, "FAILED"),
    };
    let line = align(&[report.name.to_owned(), word.to_owned(), format!("{ms} ms")], &WIDTHS);
    output.line(format_args!("{style}{line}{style:#}  {}", one_line(&report.detail, 160)))
}

#[derive(Debug, Default)]
struct Tally {
    passed: u32,
    skipped: u32,
    failed: u32,
}

impl Tally {
    const fn count(&mut self, report: &CaseReport) {
        match report.result {
            CaseResult::Passed => self.passed += 1,
            CaseResult::Skipped => self.skipped += 1,
            CaseResult::Failed => self.failed += 1,
        }
    }

    fn end(&self, session: &Session) -> Outcome {
        let Self { passed, skipped, failed } = self;
        if passed + skipped + failed == 0 {
            return Err(Failure::not_found("there is no such case").hint("without a name, all of them run"));
        }
        if session.output.is_json() {
            session.output.object(&json!({"passed": passed, "skipped": skipped, "failed": failed}))?;
        } else {
            session.output.line(format_args!("{passed} passed, {skipped} skipped, {failed} failed"))?;
        }
        Ok(if *failed == 0 { Code::Done } else { Code::Internal })
    }
}
