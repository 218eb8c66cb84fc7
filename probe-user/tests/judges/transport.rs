//! Real clients at an endpoint with TLS and a token: who has the certificate and the token is served, nobody
//! else is.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process;
use crate::prometheus::{LATER, Prometheus};
use crate::tool;

const METRIC: &str = "iovascope_complete";

/// A certificate for 127.0.0.1 that signs itself.
fn certificate(folder: &Path, name: &str) -> (String, String) {
    let [certificate, key] = ["cert", "key"].map(|kind| folder.join(format!("{name}-{kind}.pem")));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-days", "2", "-subj", "/CN=iovascope", "-addext", "subjectAltName=IP:127.0.0.1"]);
    tool::stdout(command.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    (certificate.display().to_string(), key.display().to_string())
}

fn curl(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--include", "--noproxy", "*"]).args(arguments);
    let output = command.arg(url).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn only_who_has_certificate_and_token_is_served() {
    let folder = tool::folder("transport");
    let (ours, key) = certificate(&folder, "ours");
    let (other, _) = certificate(&folder, "other");
    let [token, wrong] = ["secret", "guess"].map(|word| {
        let path = folder.join(word);
        fs::write(&path, format!("{word}\n")).unwrap();
        path.display().to_string()
    });
    let recording = tool::rich_recording(&folder);
    let options = ["--tls-cert", &ours, "--tls-key", &key, "--token-file", &token];
    let (_server, url) = process::serve(&recording, &options);
    assert!(url.starts_with("https://"), "{url}");

    let right = "Authorization: Bearer secret";
    let (status, text) = curl(&["--cacert", &ours, "--header", right], &url);
    assert!(status == Some(0) && text.contains(" 200 ") && text.contains(METRIC), "{status:?} {text}");
    for header in ["Authorization: Bearer guess", "Authorization: Basic c2VjcmV0", "X-Nothing: at all"] {
        let (status, text) = curl(&["--cacert", &ours, "--header", header], &url);
        assert_eq!(status, Some(0), "{header}: {text}");
        let head = text.to_lowercase();
        assert!(head.contains(" 401 ") && head.contains("www-authenticate: bearer"), "{header}: {text}");
        assert!(!text.contains(METRIC), "{header}: {text}");
    }
    // 60: curl does not trust the certificate.
    assert_eq!(curl(&["--cacert", &other, "--header", right], &url).0, Some(60));
    // 35: TLS older than 1.2 is not spoken.
    let old = ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "--cacert", &ours, "--header", right];
    assert_eq!(curl(&old, &url).0, Some(35));
    let (status, text) = curl(&["--header", right], &url.replace("https", "http"));
    assert!(status != Some(0) && !text.contains(METRIC), "{status:?} {text}");

    let target = process::address(&url);
    let job = |name: &str, scheme: &str, ca: &str, token: &str| {
        format!(
            "- job_name: {name}\n  scheme: {scheme}\n  authorization: {{credentials_file: '{token}'}}\n  \
             tls_config: {{ca_file: '{ca}'}}\n  static_configs: [{{targets: ['{target}']}}]\n"
        )
    };
    let jobs = [
        job("right", "https", &ours, &token),
        job("wrong-token", "https", &ours, &wrong),
        job("wrong-certificate", "https", &other, &token),
        job("plain", "http", &ours, &token),
    ];
    let prometheus = Prometheus::start(&folder, LATER, &jobs.concat());
    for (name, health, why) in [
        ("right", "up", ""),
        ("wrong-token", "down", "401"),
        ("wrong-certificate", "down", "certificate"),
        ("plain", "down", "http"),
    ] {
        let (seen, error) = prometheus.target(name);
        assert!(seen == health && error.to_lowercase().contains(why), "{name}: {seen}, {error}");
    }
    assert_eq!(prometheus.value(&format!("count({METRIC})")), 1.0);
}
