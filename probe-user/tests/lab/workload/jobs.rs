//! Job files, ways to the same answer, and answers that are wrong.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{load, number};
use crate::guest;

#[test]
fn every_ready_job_is_counted_by_recorder_and_driver_alike() {
    crate::library::agrees("ready", "");
}

#[test]
fn flags_become_a_file_and_a_result_repeats_itself() {
    let flags = ["--size=1M", "--queries=random", "--count=300", "--errors=flags=2%", "--verify"];
    let printed = guest::succeed(guest::iovascope(&["load", "--print-job"]).args(flags));
    let path = guest::file("printed.toml");
    fs::write(&path, &printed.stdout).unwrap();
    let first = load(&path.display().to_string());
    let again = guest::file("repeat.toml");
    fs::write(&again, first["repeat"].as_str().unwrap()).unwrap();
    let second = load(&again.display().to_string());
    let of = |load: &Value, key: &str| guest::job(load)[key].clone();
    for key in ["words", "arguments_hash", "calls", "seed"] {
        assert_eq!(of(&first, key), of(&second, key), "{key}");
    }
    assert_eq!(number(&first, "/calls"), 306);
}

#[test]
fn jobs_run_in_stages_and_together() {
    let path = guest::file("stages.toml");
    let text = "[[job]]\nlabel = \"a\"\nsize = \"1M\"\ncount = 10\n[[job]]\nlabel = \"b\"\nsize = \"1M\"\ncount = 20\n\
                [[job]]\nlabel = \"c\"\ntogether = true\nsize = \"1M\"\ncount = 30\nno-huge-pages = true\n";
    fs::write(&path, text).unwrap();
    let result = load(&path.display().to_string());
    let jobs = result["jobs"].as_array().unwrap();
    let seen: Vec<_> =
        jobs.iter().map(|job| (job["label"].as_str().unwrap(), &job["stage"], &job["calls"])).collect();
    let expected = [("a", 1, 10), ("b", 2, 20), ("c", 2, 30)];
    assert_eq!(seen.len(), 3);
    for (seen, (label, stage, calls)) in seen.iter().zip(expected) {
        assert_eq!((seen.0, seen.1.as_u64(), seen.2.as_u64()), (label, Some(stage), Some(calls)));
    }
}

#[test]
fn a_file_that_is_none_says_why() {
    let path = guest::file("wrong.toml");
    fs::write(&path, "[[job]]\nsise = \"1M\"\n").unwrap();
    let output = guest::iovascope(&["load"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(guest::stderr(&output).contains("--sise"), "{}", guest::stderr(&output));
}

#[test]
fn pagemap_gives_the_same_answers() {
    let result = load("break-even");
    let jobs = result["jobs"].as_array().unwrap();
    let ways: Vec<&str> = jobs.iter().map(|job| job["via"].as_str().unwrap()).collect();
    assert_eq!(ways, ["get-pa", "pagemap", "pagemap-bulk", "get-pa", "pagemap", "pagemap-bulk"]);
    for three in jobs.chunks(3) {
        for job in three {
            assert_eq!(
                (&job["verify"]["checked"], &job["verify"]["differences"]),
                (&550.into(), &0.into()),
                "{job}"
            );
            assert_eq!(job["run_bytes"]["sum"], three[0]["run_bytes"]["sum"], "{}", job["via"]);
            assert_eq!(job["arguments_hash"], three[0]["arguments_hash"]);
        }
    }
    let text = guest::succeed(&mut guest::iovascope(&["load", "break-even"]));
    fs::write(guest::file("break-even.txt"), &text.stdout).unwrap();
    assert!(guest::stdout(&text).contains("quickest from 4 KiB on"), "{}", guest::stdout(&text));
}

#[test]
fn a_wrong_answer_is_found_and_shown_and_ends_with_1() {
    // The answer of the loop's 50th call is replaced on its way: 40 bytes, a run of 4 KiB at address 4096.
    let words: [u64; 5] = [40, 2, 1 << 32, 4096, 4096];
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    let hex = bytes.fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let inject = format!("inject=ioctl:poke_exit=@arg3={hex}:when=50");
    let log = guest::file("lie.strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=ioctl", "-e", &inject, "-o"]).arg(&log);
    strace.args(["iovascope", "load", "--size", "1M", "--queries", "page", "--count", "200", "--verify"]);
    let output = strace.output().unwrap();
    let said = guest::stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{}", guest::stderr(&output));
    assert!(said.contains("200 answers against /proc/self/pagemap, 1 differ"), "{said}");
    assert!(said.contains("answer 50 of thread 0") && said.contains("is WRONG"), "{said}");
    assert!(!said.contains("out_phys"), "addresses stay hidden until asked for: {said}");
}
