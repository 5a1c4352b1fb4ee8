//! `dynamicConfigFile`: a file with nothing but the server lines, which `reconfig` replaces by a newer one.

use std::path::Path;

use ostler_types::Zxid;

use super::ReadFile;
use super::properties;
use super::reader::{Given, Origin, Reader};

/// Adds the lines of the file that `dynamicConfigFile` names, if it does, to those of the reader.
pub(super) fn read(reader: &mut Reader, read: ReadFile<'_>) {
    let name = "dynamicConfigFile";
    let Some(file) = reader.text(name).filter(|file| !file.is_empty()) else { return };
    for line in reader.members() {
        let text = format!("{line} belongs into {file}, which dynamicConfigFile names");
        reader.problem(&line, text);
    }
    let bytes = match read(Path::new(&file)) {
        Ok(bytes) => bytes,
        Err(error) => {
            reader.problem(name, format!("dynamicConfigFile: cannot read {file}: {error}"));
            return;
        }
    };
    reader.begin_dynamic(&file);
    for entry in properties::parse(&bytes) {
        match entry {
            Ok(entry) => reader.add_dynamic(Given::new(Origin::Dynamic(entry.line), entry.key, entry.value)),
            Err(bad) => reader.bad_escape(Origin::Dynamic(bad.line)),
        }
    }
}

/// The version in a dynamic file's name: what follows its last dot, in hexadecimal; 0 if that is no such number.
pub(super) fn version(file: &Path) -> Zxid {
    let name = file.file_name().map(|name| name.to_string_lossy());
    let suffix = name.as_deref().and_then(|name| name.rsplit_once('.')).map(|(_, suffix)| suffix);
    let digits = |suffix: &&str| suffix.bytes().all(|b| b.is_ascii_hexdigit());
    suffix.filter(digits).and_then(|suffix| i64::from_str_radix(suffix, 16).ok()).map_or(Zxid(0), Zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_name() {
        for (name, expected) in [
            ("/etc/zoo.cfg.dynamic.100000000", 0x1_0000_0000),
            ("zoo.cfg.dynamic.ab", 0xab),
            ("zoo.cfg.dynamic", 0),
            ("zoo.cfg.dynamic.next", 0),
            ("zoo.cfg.dynamic.+1", 0),
            ("zoo", 0),
            ("zoo.", 0),
            ("/a.1/zoo", 0),
            ("zoo.8000000000000000", 0),
        ] {
            assert_eq!(version(Path::new(name)), Zxid(expected), "{name}");
        }
    }
}
