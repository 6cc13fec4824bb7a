//! The folder of workspaces, which gateways and workers for tools share: that it is the same one is seen by a mark in it,
//! which the database has too.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use contracts::RunId;
use platform::{config::Config, database};
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::store;
use crate::{App, app::private_folder};

/// Below the data folder.
const FOLDER: &str = "workspaces";
/// In it, beside the tenants' folders.
const MARK: &str = ".install";
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum NotShared {
    #[error(
        "SA01_DATA_DIR: {} is not the folder that the other processes of this install keep conversations' files in. Gateways \
         and workers for tools share one: mount it there. If it is the right one after all, as after files were moved, say so: \
         echo {mark} > {}", folder.display(), folder.join(MARK).display()
    )]
    Another { folder: PathBuf, mark: String },
    #[error("SA01_DATA_DIR: {} can't be used: {error}", folder.display())]
    Unusable { folder: PathBuf, error: io::Error },
    #[error(transparent)]
    Database(#[from] database::Error),
}

pub(super) fn folder(config: &Config) -> PathBuf {
    config.data_dir.join(FOLDER)
}

/// For processes that share the folder. The first one puts the mark there.
pub async fn are_shared(app: &App) -> Result<(), NotShared> {
    let folder = folder(&app.config);
    let own = match own_mark(&folder).await {
        Ok(own) => own,
        Err(error) => return Err(NotShared::Unusable { folder, error }),
    };
    let told = own.clone();
    let mark: Result<String, database::Error> =
        app.database.write(move |tx| Box::pin(async move { store::mark_of_folder(tx, &told).await })).await;
    let mark = mark?;
    if mark == own { Ok(()) } else { Err(NotShared::Another { folder, mark }) }
}

/// The mark in a folder; one that has none is given one, once, whoever else does so now.
async fn own_mark(folder: &Path) -> io::Result<String> {
    let file = folder.join(MARK);
    private_folder(folder)?;
    match File::options().write(true).create_new(true).open(&file).await {
        Ok(mut made) => {
            let mark = RunId::new().to_string();
            made.write_all(format!("{mark}\n").as_bytes()).await?;
            made.sync_all().await?;
            Ok(mark)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => written(&file).await,
        Err(error) => Err(error),
    }
}

/// What is in a mark that another process may be writing now.
async fn written(file: &Path) -> io::Result<String> {
    for _ in 0..LOOKS {
        let mark = tokio::fs::read_to_string(file).await?;
        if !mark.trim().is_empty() {
            return Ok(mark.trim().to_owned());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(io::Error::other(format!("{} is empty: remove it", file.display())))
}
