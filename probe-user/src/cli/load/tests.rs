use super::*;
use crate::workload::words::JobFile;

fn words(pairs: &[(&str, &str)]) -> Words {
    Words(pairs.iter().map(|(word, value)| ((*word).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn words_are_flags() {
    let job = JobArgs::of(&words(&[
        ("memory", "fragmented"),
        ("queries", "cap-sweep"),
        ("verify", "true"),
        ("via", "get-pa,pagemap"),
        ("cpus", "0,2-3"),
        ("churn", "under"),
        ("rate", "1.5"),
        ("errors", "unmapped=5%"),
    ]))
    .expect("good");
    assert_eq!((job.memory.name(), job.queries.name(), job.verify), ("shuffled", "cap-sweep", true));
    assert_eq!((job.via, job.cpus), (vec![Way::GetPa, Way::Pagemap], Some(Cpus(vec![0, 2, 3]))));
    assert_eq!((job.churn.map(|kind| kind.name), job.rate), (Some("under"), Some(1.5)));
}

#[test]
fn a_wrong_word_is_named() {
    let error = |pairs: &[(&str, &str)]| JobArgs::of(&words(pairs)).expect_err("bad").0;
    assert!(error(&[("sise", "1M")]).contains("--sise"), "{}", error(&[("sise", "1M")]));
    let memory = error(&[("memory", "gold")]);
    assert!(memory.contains("gold") && memory.contains("hugetlb-1g"), "{memory}");
    for (word, value) in [("threads", "0"), ("rate", "-1"), ("cpus", "3-1"), ("cap", "x")] {
        assert!(error(&[(word, value)]).contains(word), "{word}");
    }
    assert!(error(&[("arrivals", "constant")]).contains("--rate"), "arrivals of a closed loop");
}

#[test]
fn what_is_given_outranks_a_file() {
    let line = crate::cli::Cli::command();
    let matches =
        line.get_matches_from(["iovascope", "load", "--size", "1M", "--verify", "--via", "pagemap,get-pa"]);
    let matches = matches.subcommand_matches("load").expect("load");
    let given = given(matches);
    assert_eq!(given, words(&[("size", "1M"), ("verify", "true"), ("via", "pagemap,get-pa")]));
    let file = JobFile::parse("[[job]]\nsize = \"64M\"\ncount = 7\n").expect("good");
    let both = file.jobs[0].words.overlaid(&given);
    assert_eq!((both.0["size"].as_str(), both.0["count"].as_str()), ("1M", "7"));
}

#[test]
fn every_ready_job_is_one_and_says_what_it_answers() {
    for (name, text) in crate::workload::library::READY {
        let file = JobFile::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(file.question.is_some_and(|question| question.ends_with('?')), "{name}");
        assert!(file.answer.is_some(), "{name}");
        for entry in &file.jobs {
            let job = JobArgs::of(&entry.words).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(entry.words.0.contains_key("label"), "{name}: {}", job.label);
        }
    }
}
