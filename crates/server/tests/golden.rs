//! Every exchange recorded from Apache ZooKeeper (crates/testkit/golden), played to Ostler byte by byte.

use std::path::{Path, PathBuf};

use ostler_server::Server;
use ostler_server::config::{self, Overrides};
use ostler_testkit::golden::{self, Scenario, Side};

/// The settings a scenario asks for, as a zoo.cfg for an empty directory.
fn zoo_cfg(scenario: &Scenario, data_dir: &Path) -> String {
    let mut text = format!(
        "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\npreAllocSize=64\n",
        data_dir.display()
    );
    for setting in &scenario.settings {
        // What Apache ZooKeeper only takes as a JVM property is a line of the file here.
        let key = setting.key.strip_prefix("zookeeper.").unwrap_or(&setting.key);
        text += &format!("{key}={}\n", setting.value);
    }
    text
}

fn play(file: &Path) -> Result<usize, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let scenario = Scenario::parse(&text).map_err(|error| format!("{error:?}"))?;
    let data_dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let loaded =
        config::parse("zoo.cfg", zoo_cfg(&scenario, data_dir.path()).as_bytes(), &Overrides::default())
            .map_err(|error| error.to_string())?;
    let server = Server::start(loaded.config).map_err(|error| error.to_string())?;
    let played = golden::replay_as(Side::Ostler, server.address(), &text);
    server.stop();
    played.map(|report| report.frames_compared).map_err(|failure| failure.to_string())
}

#[test]
fn ostler_answers_as_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the golden exchanges are in the repository")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() > 40, "only {} golden exchanges found", files.len());
    let mut failures = Vec::new();
    let mut frames = 0;
    for file in &files {
        match play(file) {
            Ok(compared) => frames += compared,
            Err(failure) => failures.push(format!("{}: {failure}", file.display())),
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    assert!(frames > 500, "only {frames} frames compared");
}
