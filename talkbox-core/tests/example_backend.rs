//! The backend of `docs/writing-a-backend.md` compiles against talkbox-core alone and passes the kit, and what the page
//! quotes is what is in its files.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_owned()
}

fn example() -> PathBuf {
    root().join("docs/example-backend")
}

/// Compiles it with `rustc` against the talkbox-core that this test runs with, and gives it nothing else: two calls of
/// a compiler, where cargo would build every dependency again, since outside the workspace their features differ.
#[test]
fn the_example_compiles_and_passes() {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let libs = candidates();
    assert!(!libs.is_empty(), "no talkbox-core lies beside this test");
    let mut refused = String::new();
    for lib in libs {
        let library =
            rustc(&lib, out.path(), "src/lib.rs", &["--crate-type=rlib", "--crate-name=talkbox_backend_folder"]);
        let tests = rustc(&lib, out.path(), "tests/conformance.rs", &["--test", "--crate-name=conformance"]);
        refused = [words(&library), words(&tests)].concat();
        if library.status.success() && tests.status.success() {
            let mut kit = Command::new(out.path().join("conformance"));
            let run = kit.current_dir(example()).output().expect("the tests of the example run");
            assert!(run.status.success(), "{}", words(&run));
            assert!(words(&run).contains("put_then_list ... ok"), "the kit did not run: {}", words(&run));
            return;
        }
        // One that was built without the kit, for something else.
        assert!(refused.contains("testkit"), "{refused}");
    }
    panic!("{refused}");
}

/// The same as its reader does it, with cargo. It builds dependencies again and so takes minutes: only where time does
/// not matter.
#[test]
fn the_example_passes_with_cargo() {
    if env::var_os("TALKBOX_FULL").is_none() {
        // Not by `eprintln`, which is shown only where a test fails.
        let _ = writeln!(std::io::stderr(), "skipped: set TALKBOX_FULL to build the example with cargo");
        return;
    }
    let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    for file in ["src/lib.rs", "src/files.rs", "tests/conformance.rs"] {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(example().join(file), to).expect("a file");
    }
    let manifest = fs::read_to_string(example().join("Cargo.toml")).expect("a file");
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).to_str().expect("a path without odd characters");
    fs::write(copy.path().join("Cargo.toml"), manifest.replace("../../talkbox-core", core)).expect("a file");
    // The versions of the workspace, so that nothing has to be downloaded.
    fs::copy(root().join("Cargo.lock"), copy.path().join("Cargo.lock")).expect("a file");
    // Beside this test is what it was built from: the target folder is two above it.
    let exe = env::current_exe().expect("a path");
    let target = exe.ancestors().nth(3).expect("target/debug/deps/test");
    let run = cargo(&["test", "--offline", "--quiet", "--target-dir"]).arg(target).current_dir(copy.path()).output();
    let run = run.expect("cargo runs");
    assert!(run.status.success(), "{}", words(&run));
}

/// Its manifest is well-formed, and names talkbox-core and nothing else.
#[test]
fn the_example_depends_on_core_alone() {
    let run = cargo(&["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"])
        .arg(example().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(run.status.success(), "{}", words(&run));
    let metadata: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), 1);
    assert_eq!(packages[0]["name"], "talkbox-backend-folder");
    assert_eq!(packages[0]["edition"], EDITION);
    let dependencies = packages[0]["dependencies"].as_array().expect("dependencies");
    assert!(!dependencies.is_empty());
    for dependency in dependencies {
        assert_eq!(dependency["name"], "talkbox-core");
        assert_eq!(dependency["path"], env!("CARGO_MANIFEST_DIR"));
    }
}

/// A block that names a file quotes it; `// …` stands for what is left out.
#[test]
fn the_page_quotes_the_example() {
    let page = fs::read_to_string(root().join("docs/writing-a-backend.md")).expect("the page");
    let mut quoted = 0;
    for (at, block) in page.split("\n```").enumerate().filter(|(at, _)| at % 2 == 1) {
        let (info, text) = block.split_once('\n').expect("a block of lines");
        let Some((_, file)) = info.split_once(' ') else {
            assert_ne!(info, "rust", "block {} of the page is code, and names no file", at / 2 + 1);
            continue;
        };
        let source = fs::read_to_string(example().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut rest = source.as_str();
        for part in text.split("// …\n").map(str::trim_end).map(|part| part.trim_start_matches('\n')) {
            // The line where something is left out is indented.
            let part = part.trim_end();
            let found = rest.find(part).unwrap_or_else(|| panic!("{file} does not have this, or not here:\n{part}"));
            rest = &rest[found + part.len()..];
        }
        quoted += 1;
    }
    assert!(quoted >= 5, "the page quotes {quoted} times");
}

const EDITION: &str = "2024";

/// The builds of talkbox-core that are not newer than this test: the newest first, which is the one that the test was
/// linked with or another one of the same sources.
fn candidates() -> Vec<PathBuf> {
    let exe = env::current_exe().expect("a path");
    let built = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).expect("a file with a time");
    let files = fs::read_dir(exe.parent().expect("a folder")).expect("a folder");
    let paths = files.map(|file| file.expect("a file").path());
    let named = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("libtalkbox_core-"))
    };
    let mut libs: Vec<PathBuf> = paths
        .filter(|path| path.extension() == Some(OsStr::new("rlib")) && named(path) && built(path) <= built(&exe))
        .collect();
    libs.sort_by_key(|path| std::cmp::Reverse(built(path)));
    libs
}

fn rustc(core: &Path, out: &Path, source: &str, options: &[&str]) -> Output {
    let named = |name: &str, library: &Path| {
        let mut named = OsString::from(format!("{name}="));
        named.push(library);
        named
    };
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .arg(example().join(source))
        .args(options)
        .args(["--edition", EDITION, "-D", "warnings", "--out-dir"])
        .arg(out);
    rustc.arg("--extern").arg(named("talkbox_core", core));
    rustc.arg("-L").arg(named("dependency", core.parent().expect("a folder")));
    if source.starts_with("tests") {
        rustc.arg("--extern").arg(named("talkbox_backend_folder", &out.join("libtalkbox_backend_folder.rlib")));
    }
    rustc.env("CARGO_TARGET_TMPDIR", out).output().expect("rustc runs")
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

fn words(run: &Output) -> String {
    [&run.stdout[..], &run.stderr[..]].map(String::from_utf8_lossy).concat()
}
