//! A job in words: the flags of the command line, as keys of a TOML file. One vocabulary for both.
//!
//! Knows no flag: which words there are and what they mean, the command line decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Long names of flags with their values; a flag without a value has `true`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Words(pub BTreeMap<String, String>);

/// A file of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFile {
    /// What running it is to find out.
    pub question: Option<String>,
    /// What in the result answers that.
    pub answer: Option<String>,
    pub jobs: Vec<Entry>,
}

/// A job of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    pub words: Words,
    /// Whether it runs together with the job before it.
    pub together: bool,
}

/// A file that holds no jobs, or not in this form.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    #[error("{0}")]
    Form(#[from] toml::de::Error),
    #[error("there is no [[job]] in it")]
    Empty,
    #[error("`{0}` holds a table or a date; write a string, a number or true")]
    Value(String),
    #[error("the first job has nothing before it to run together with")]
    Alone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    question: Option<String>,
    answer: Option<String>,
    #[serde(default)]
    job: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(default)]
    together: bool,
    #[serde(flatten)]
    words: BTreeMap<String, toml::Value>,
}

impl JobFile {
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let Raw { question, answer, job } = toml::from_str(text)?;
        if job.is_empty() {
            return Err(WordsError::Empty);
        }
        if job[0].together {
            return Err(WordsError::Alone);
        }
        let jobs = job.into_iter().map(Entry::of).collect::<Result<_, _>>()?;
        Ok(Self { question, answer, jobs })
    }

    /// The text of a file that says the same.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for (key, value) in [("question", &self.question), ("answer", &self.answer)] {
            if let Some(value) = value {
                text.push_str(&[key, " = ", &quoted(value), "\n"].concat());
            }
        }
        for entry in &self.jobs {
            text.push_str(if text.is_empty() { "[[job]]\n" } else { "\n[[job]]\n" });
            if entry.together {
                text.push_str("together = true\n");
            }
            for (word, value) in &entry.words.0 {
                text.push_str(&[word, " = ", &written(value), "\n"].concat());
            }
        }
        text
    }
}

impl Entry {
    fn of(raw: RawEntry) -> Result<Self, WordsError> {
        let mut words = Words::default();
        for (word, value) in raw.words {
            // A flag that is not wanted is one that is not given.
            if value == toml::Value::Boolean(false) {
                continue;
            }
            let text = read(&value).ok_or_else(|| WordsError::Value(word.clone()))?;
            words.0.insert(word, text);
        }
        Ok(Self { words, together: raw.together })
    }
}

impl Words {
    /// These words, and those of `others` where they say something too.
    #[must_use]
    pub fn overlaid(&self, others: &Self) -> Self {
        let mut words = self.clone();
        words.0.extend(others.0.clone());
        words
    }

    /// As arguments of a command line.
    pub fn arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(word, value)| match value.as_str() {
            "true" => format!("--{word}"),
            value => format!("--{word}={value}"),
        })
    }
}

/// `None` where it is no value of a flag.
fn read(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(given) => Some(given.to_string()),
        toml::Value::Array(list) => {
            let all: Option<Vec<String>> = list.iter().map(read).collect();
            all.map(|all| all.join(","))
        }
        toml::Value::Table(_) | toml::Value::Datetime(_) => None,
    }
}

fn written(value: &str) -> String {
    let plain = value == "true" || value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if plain { value.to_owned() } else { quoted(value) }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        question = "What does a \"cap\" cost?"
        [[job]]
        label = "one"
        count = 20000
        verify = true
        show-addresses = false
        via = ["get-pa", "pagemap"]
        rate = 1.5
        [[job]]
        together = true
        label = "two"
    "#;

    #[test]
    fn a_file_becomes_words_and_words_a_file() {
        let file = JobFile::parse(FILE).expect("good");
        let first = &file.jobs[0].words.0;
        assert_eq!(
            (first["count"].as_str(), first["via"].as_str(), first["rate"].as_str()),
            ("20000", "get-pa,pagemap", "1.5")
        );
        assert!(!first.contains_key("show-addresses"));
        assert!(file.jobs[1].together && file.jobs[1].words.0.len() == 1);
        assert_eq!(JobFile::parse(&file.print()).expect("ours"), file);
    }

    #[test]
    fn words_become_arguments() {
        let words = JobFile::parse(FILE).expect("good").jobs[0].words.clone();
        let arguments: Vec<String> = words.arguments().collect();
        assert!(
            arguments.contains(&"--verify".to_owned()) && arguments.contains(&"--count=20000".to_owned())
        );
        let given = Words([("count".to_owned(), "5".to_owned())].into());
        assert_eq!(words.overlaid(&given).0["count"], "5");
    }

    #[test]
    fn what_is_no_file_of_jobs_says_why() {
        let error = |text: &str| JobFile::parse(text).expect_err("bad").to_string();
        assert!(error("").contains("no [[job]]"));
        assert!(error("[[job]]\ntogether = true\n").contains("first job"));
        assert!(error("[[job]]\nlabel = {a = 1}\n").contains("label"));
        assert!(error("quest = 1\n[[job]]\n").contains("quest"));
        assert!(error("[[job\n").contains("line 1"));
    }
}
