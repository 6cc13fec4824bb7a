//! The policy as a bundle of OPA: what a server is given, so that it decides what this program would.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{DECISION_MODULE, Policy};

const MANIFEST: &str = ".manifest";
const DATA: &str = "data.json";

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{0} holds `{1}`, which is no part of a bundle of this program; name an empty folder")]
    Occupied(PathBuf, String),
    #[error("the bundle can't be written to {0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

impl Policy {
    /// Writes the bundle into a folder, making it when absent and replacing the bundle that is there. The tables are
    /// values in it: a server that computed them would do so for every question.
    pub fn write_bundle(&self, folder: &Path) -> Result<(), BundleError> {
        let failed = |error| BundleError::Io(folder.to_owned(), error);
        let of_json = |error: serde_json::Error| failed(error.into());
        let data = serde_json::to_string_pretty(&self.loaded.data).map_err(of_json)?;
        let manifest = json!({ "revision": self.revision(), "roots": [""], "rego_version": 1 });
        let manifest = serde_json::to_string_pretty(&manifest).map_err(of_json)?;
        // The manifest last: a bundle that is half written has the revision of before, or none.
        let files = [(DECISION_MODULE.0, &self.loaded.rules), (DATA, &data), (MANIFEST, &manifest)];
        fs::create_dir_all(folder).map_err(failed)?;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // A server reads whatever lies there, and would decide by it under this revision.
            if !files.iter().any(|(ours, _)| name == *ours || name == *beside(ours)) {
                let name = name.to_string_lossy().into_owned();
                return Err(BundleError::Occupied(folder.to_owned(), name));
            }
        }
        for (name, text) in files {
            let new = folder.join(beside(name));
            fs::write(&new, text).and_then(|()| fs::rename(&new, folder.join(name))).map_err(failed)?;
        }
        Ok(())
    }
}

/// Where a file is written before it takes its place. OPA reads no file of such a name.
fn beside(name: &str) -> String {
    format!("{name}.new")
}
