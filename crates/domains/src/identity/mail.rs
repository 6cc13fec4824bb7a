//! What people get by mail: links, and nothing else. Where no mail is sent, links are shown to whoever made them.

use std::{sync::Arc, time::Duration};

use contracts::LinkId;
use jiff::Timestamp;
use platform::{
    database::Error as StoreError,
    mail::{Letter, Mailer},
};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::{
    Error, events,
    links::{self, NewLink, Purpose},
    store::{links as store, users as user_rows},
    users,
};
use crate::{App, audit, tenants};

/// Letters about forgotten passwords under way at once. Past it they are not sent: whoever asked asks again.
const RESETS_MAX: usize = 16;
/// A user gets no second letter about a forgotten password within this time.
const RESET_EVERY: Duration = Duration::from_secs(60);

/// The mailer, if the install has one.
#[derive(Debug)]
pub struct Mail {
    mailer: Option<Mailer>,
    resets: Arc<Semaphore>,
}

impl Mail {
    pub fn new(mailer: Option<Mailer>) -> Self {
        Self { mailer, resets: Arc::new(Semaphore::new(RESETS_MAX)) }
    }

    pub(super) fn sends(&self) -> bool {
        self.mailer.is_some()
    }
}

/// Sends a link to a password; whether it went out.
pub(super) async fn password_link(app: &App, new: &NewLink) -> bool {
    let what = match new.row.purpose {
        Purpose::Reset => "Somebody asked for another password for your account.",
        Purpose::Setup | Purpose::Invitation => "There is an account for you. Set its password to sign in.",
    };
    send(app, new, "Your password", what).await
}

/// Sends an invitation; whether it went out.
pub(super) async fn invitation(app: &App, new: &NewLink) -> bool {
    let tenant = tenants::name_of(app.database.read(), new.row.tenant).await.ok().flatten();
    let tenant = tenant.map_or_else(|| "an install".to_owned(), |tenant| tenant.name);
    let what = format!("You are invited to {tenant} on SomaAgent01.");
    send(app, new, "You are invited to SomaAgent01", &what).await
}

/// Whoever comes by a link that only their mailbox has shows that the address is theirs.
async fn note_sent(app: &App, link: LinkId) {
    let noted = app.database.write(move |tx| Box::pin(async move { store::set_mailed(tx, link).await }));
    let noted: Result<(), StoreError> = noted.await;
    if let Err(error) = noted {
        // The link works; whoever takes it only counts as somebody whose address is not known to be theirs.
        tracing::error!(%error, "it could not be noted that a letter was sent");
    }
}

async fn send(app: &App, new: &NewLink, subject: &str, what: &str) -> bool {
    let Some(mailer) = &app.mail.mailer else { return false };
    let until = Timestamp::from_millisecond(new.row.expires_at).unwrap_or(Timestamp::MAX);
    let text = format!(
        "{what}\n\nOpen this link; it works once, until {}:\n\n{}\n\nIf you did not expect this letter, do nothing.\n",
        until.strftime("%Y-%m-%d %H:%M UTC"),
        new.link.expose_secret(),
    );
    let letter = Letter { to: new.row.email.clone(), subject: subject.to_owned(), text: text.into() };
    match mailer.send(letter).await {
        Ok(()) => {
            note_sent(app, new.row.id).await;
            true
        }
        Err(error) => {
            tracing::error!(%error, "a letter was not sent");
            false
        }
    }
}

/// Sends a link to whoever has this address, if anyone has. It is done beside the answer, which is the same, and comes as
/// soon, for everybody.
pub(super) fn forgotten(app: &Arc<App>, email: String) {
    if !app.mail.sends() {
        return;
    }
    let Ok(place) = Arc::clone(&app.mail.resets).try_acquire_owned() else {
        tracing::warn!("too many letters about forgotten passwords are under way: one was not sent");
        return;
    };
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = send_reset(&app, &email).await {
            tracing::error!(%error, "a letter about a forgotten password was not sent");
        }
    });
}

async fn send_reset(app: &App, email: &str) -> Result<(), Error> {
    let Ok(email) = users::checked_email(email) else { return Ok(()) };
    let Some(user) = user_rows::by_email(app.database.read(), &email).await? else { return Ok(()) };
    let Some(home) = users::home(app.database.read(), user.id, user.last_tenant).await? else {
        return Ok(());
    };
    if user.kind != users::Kind::Person {
        return Ok(());
    }
    let mut new = links::to_password(&app.config, &user, home, None);
    // If no letter goes out, nobody ever sees it.
    new.row.mailed = true;
    let who = events::at_the_door(home, user.id);
    let details = serde_json::json!({ "purpose": new.row.purpose.as_str(), "id": new.row.id });
    let on = contracts::policy::Resource::new("user", user.id);
    let entry = events::done(&who, events::LINK_MADE, "forgotten", on, details);
    let every_ms = i64::try_from(RESET_EVERY.as_millis()).unwrap_or(i64::MAX);
    let new = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                if store::made_since(tx, user.id, new.row.created_at - every_ms).await? {
                    return Ok(None);
                }
                store::delete_of_user(tx, user.id).await?;
                store::insert(tx, &new.row, &new.hash).await?;
                audit::add(tx, &entry).await?;
                Ok::<_, platform::database::Error>(Some(new))
            })
        })
        .await
        .map_err(Error::Store)?;
    if let Some(new) = new {
        password_link(app, &new).await;
    }
    Ok(())
}
