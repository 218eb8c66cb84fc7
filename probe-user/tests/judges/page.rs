//! A browser opens the HTML report, and a validator reads the JSON one.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tool;

fn browser(folder: &Path) -> Command {
    let mut command = Command::new("/usr/lib/chromium/chromium-headless-shell");
    command.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command
}

fn page(folder: &Path) -> String {
    let path = folder.join("report.html");
    let _ = fs::remove_file(&path);
    let recording = tool::rich_recording(folder);
    tool::stdout(tool::iovascope(&["report", "-f", "html", "-o"]).arg(&path).arg(recording));
    format!("file://{}", path.display())
}

#[test]
fn the_page_is_drawn_without_an_error_or_a_request() {
    let folder = tool::folder("page");
    let url = page(&folder);
    let log = folder.join("net.json");
    let output = browser(&folder)
        .arg(format!("--log-net-log={}", log.display()))
        .args(["--dump-dom", &url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(":CONSOLE"), "{said}");
    let dom = String::from_utf8(output.stdout).unwrap();
    for plot in
        ["Latency by percentile", "Latency over time", "Latency by scan length", "Run length by what ended"]
    {
        let begins = dom.find(&format!("aria-label=\"{plot}")).unwrap_or_else(|| panic!("no plot {plot:?}"));
        let svg = &dom[begins..begins + dom[begins..].find("</svg>").unwrap()];
        let drawn = svg.matches("class=\"line").count() + svg.matches("fill-opacity").count();
        assert!(drawn >= 2, "{plot}: {svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{plot}: {svg}");
    }
    // Whatever the browser itself may try, the page asks for nothing.
    let requests = fs::read_to_string(&log).unwrap();
    let asked: Vec<_> =
        requests.split("\"url\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let by_page =
        |url: &&&str| url.starts_with("http") && !url.contains("google") && !url.contains("gstatic");
    assert_eq!(asked.iter().filter(by_page).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(!dom.contains("<script") && !dom.contains("src=") && !dom.contains("@import"));
}

#[test]
fn the_page_fits_a_phone_and_a_desk_in_light_and_dark() {
    let folder = tool::folder("screens");
    let url = page(&folder);
    for (width, height) in [(500, 2600), (1440, 2200)] {
        for (name, scheme) in [("light", 1), ("dark", 0)] {
            let picture = folder.join(format!("{width}-{name}.png"));
            let mut command = browser(&folder);
            command.arg(format!("--window-size={width},{height}"));
            command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
            command.arg(format!("--screenshot={}", picture.display())).arg(&url);
            tool::stdout(&mut command);
            assert!(fs::metadata(&picture).unwrap().len() > 20_000, "{}", picture.display());
        }
    }
    let pictures = ["500-light", "500-dark", "1440-light", "1440-dark"];
    let pictures = pictures.map(|name| fs::read(folder.join(format!("{name}.png"))).unwrap());
    assert!(
        pictures[0] != pictures[1] && pictures[2] != pictures[3],
        "dark is not drawn otherwise than light"
    );
}

#[test]
fn json_is_what_the_schema_says() {
    let folder = tool::folder("schema");
    let recording = tool::rich_recording(&folder);
    let report = tool::stdout(tool::iovascope(&["report", "-f", "json"]).arg(recording));
    let check = "import json, sys, jsonschema\n\
                 schema = json.load(open('/lab/build/docs/report.schema.json'))\n\
                 jsonschema.Draft202012Validator.check_schema(schema)\n\
                 jsonschema.validate(json.load(open(sys.argv[1])), schema)\n";
    let valid = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        Command::new("python3").args(["-c", check]).arg(path).output().unwrap()
    };
    let good = valid("good.json", &report);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    // The schema can say no.
    for (from, to) in [("\"pages\": ", "\"page\": "), ("iovascope-report-1", "iovascope-report-2")] {
        let spoilt = report.replacen(from, to, 1);
        assert!(spoilt != report && !valid("bad.json", &spoilt).status.success(), "{from}");
    }
}
