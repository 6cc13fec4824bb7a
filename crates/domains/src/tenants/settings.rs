//! Settings that people change while the program runs, inherited: platform, tenant, agent, user.
//!
//! Each is declared once, in [`SETTINGS`], with where it may be set. Of most the nearest value counts; of one that may
//! only be narrowed, the strictest. What an operator sets before the start is the configuration's, not this.

use contracts::{AgentId, Caller, TenantId, UserId, policy::Resource};
use platform::{database::Error as StoreError, durable::unix_ms};
use serde_json::{Value, json};

use super::{
    api::{SetValue, SettingItem},
    service::Error,
    store::settings as store,
};
use crate::{App, agents, audit, authority};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Default,
    Platform,
    Tenant,
    Agent,
    User,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole number between these.
    Number(i64, i64),
    Choice(&'static [&'static str]),
    /// A list of tools' names.
    Tools,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Number(..) => "number",
            Self::Choice(_) => "choice",
            Self::Tools => "tools",
        }
    }
}

struct Declared {
    key: &'static str,
    kind: Kind,
    description: &'static str,
    set_at: &'static [Level],
    /// Values of all levels count together: the lowest number, the last of the choices, every tool. No level takes back
    /// what another asks for.
    narrows: bool,
}

const API_REQUESTS_PER_MINUTE: &str = "api_requests_per_minute";
const APPROVAL_EXPIRY_HOURS: &str = "approval_expiry_hours";
const APPROVAL_REQUIRED_TOOLS: &str = "approval_required_tools";
const MFA_POLICY: &str = "mfa_policy";
const RUN_EVENTS_DAYS: &str = "run_events_days";
const UI_THEME: &str = "ui_theme";

const SETTINGS: &[Declared] = &[
    Declared {
        key: API_REQUESTS_PER_MINUTE,
        kind: Kind::Number(1, 1_000_000),
        description: "Requests that a tenant may make in a minute. The install's own limit counts as well, and a tenant \
                      may only lower what the platform says.",
        set_at: &[Level::Platform, Level::Tenant],
        narrows: true,
    },
    Declared {
        key: APPROVAL_EXPIRY_HOURS,
        kind: Kind::Number(1, 24 * 30),
        description: "Hours that a tool call waits for somebody's approval. A lower level may only shorten it.",
        set_at: &[Level::Platform, Level::Tenant, Level::Agent],
        narrows: true,
    },
    Declared {
        key: APPROVAL_REQUIRED_TOOLS,
        kind: Kind::Tools,
        description: "Tools whose calls wait for somebody's approval, besides those that the agent's list says. A lower \
                      level may only add to them.",
        set_at: &[Level::Platform, Level::Tenant, Level::Agent],
        narrows: true,
    },
    Declared {
        key: MFA_POLICY,
        kind: Kind::Choice(&["off", "optional", "required"]),
        description: "Second factors of people who sign in here: `off`, none can be set up; `optional`, as everybody \
                      likes; `required`, who has none can do nothing but set one up. A tenant may only ask for more than \
                      the platform says. Programs, and people whom an identity provider signs in, are not asked.",
        set_at: &[Level::Platform, Level::Tenant],
        narrows: true,
    },
    Declared {
        key: RUN_EVENTS_DAYS,
        kind: Kind::Number(1, 36_500),
        description: "Days after its end for which a run's events are kept; its messages, state and cost stay. A tenant \
                      may only shorten it.",
        set_at: &[Level::Platform, Level::Tenant],
        narrows: true,
    },
    Declared {
        key: UI_THEME,
        kind: Kind::Choice(&["system", "light", "dark"]),
        description: "The web interface's colours.",
        set_at: &[Level::Platform, Level::Tenant, Level::User],
        narrows: false,
    },
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Tools that a setting may list.
const TOOLS_MAX: usize = 200;

fn declared(key: &str) -> Option<&'static Declared> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn default_of(app: &App, key: &str) -> Value {
    match key {
        // The operator's own setting, in its unit.
        APPROVAL_EXPIRY_HOURS => json!((app.config.approval_expiry_ms / HOUR_MS).max(1)),
        APPROVAL_REQUIRED_TOOLS => json!([]),
        API_REQUESTS_PER_MINUTE => json!(app.config.gateway.rates.tenant),
        RUN_EVENTS_DAYS => json!(app.config.run_events_kept_ms / DAY_MS),
        MFA_POLICY => json!("optional"),
        _ => json!("system"),
    }
}

/// Whose value is asked for.
#[derive(Debug, Clone, Copy)]
struct Place {
    tenant: TenantId,
    agent: Option<AgentId>,
    user: Option<UserId>,
}

impl Place {
    /// The scopes of this place, the widest first; a level that is not asked for has one that nothing is set at.
    fn scopes(self) -> [String; 4] {
        [
            "platform".to_owned(),
            format!("tenant:{}", self.tenant),
            self.agent.map_or_else(String::new, |agent| format!("agent:{agent}")),
            self.user.map_or_else(String::new, |user| format!("user:{}:{user}", self.tenant)),
        ]
    }
}

const LEVELS: [Level; 4] = [Level::Platform, Level::Tenant, Level::Agent, Level::User];

/// What the values of all levels come to, and the level that it comes from.
fn resolve(setting: &Declared, default: Value, set: &[(Level, Value)]) -> (Value, Level) {
    let mut found = (default, Level::Default);
    for (level, value) in set {
        found = match (setting.narrows, setting.kind) {
            (false, _) => (value.clone(), *level),
            (true, Kind::Tools) => {
                let union = union(&found.0, value);
                if union == found.0 { found } else { (union, *level) }
            }
            // A default that is a bound of the operator's counts too; one that is a choice only stands in.
            (true, Kind::Choice(_)) if found.1 == Level::Default => (value.clone(), *level),
            (true, Kind::Choice(choices)) => {
                let rank = |value: &Value| choices.iter().position(|choice| value == *choice);
                if rank(value) > rank(&found.0) { (value.clone(), *level) } else { found }
            }
            (true, Kind::Number(..)) => {
                let lower =
                    found.0.as_i64().is_none_or(|bound| value.as_i64().is_some_and(|value| value < bound));
                if lower { (value.clone(), *level) } else { found }
            }
        };
    }
    found
}

fn names(value: &Value) -> Vec<String> {
    let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

fn union(one: &Value, other: &Value) -> Value {
    let mut all = names(one);
    all.extend(names(other));
    all.sort();
    all.dedup();
    json!(all)
}

/// What is set at the levels of a place, the widest first, of every setting.
async fn set_at(
    app: &App,
    place: Place,
) -> Result<Vec<(&'static Declared, Vec<(Level, Value)>)>, StoreError> {
    let scopes = place.scopes();
    let rows = store::set_at(app.database.read(), &scopes).await?;
    Ok(SETTINGS
        .iter()
        .map(|setting| {
            let at = |scope: &String| {
                let row = rows.iter().find(|(set, key, _)| set == scope && key == setting.key)?;
                Some(row.2.clone())
            };
            let set = LEVELS.into_iter().zip(&scopes).filter_map(|(level, scope)| Some((level, at(scope)?)));
            (setting, set.collect())
        })
        .collect())
}

async fn all_at(app: &App, place: Place) -> Result<Vec<(&'static Declared, Value, Level)>, StoreError> {
    let all = set_at(app, place).await?.into_iter().map(|(setting, set)| {
        let (value, level) = resolve(setting, default_of(app, setting.key), &set);
        (setting, value, level)
    });
    Ok(all.collect())
}

async fn value(app: &App, key: &str, place: Place) -> Result<(Value, Level), StoreError> {
    let all = all_at(app, place).await?;
    let found = all.into_iter().find(|(setting, ..)| setting.key == key);
    Ok(found.map_or((Value::Null, Level::Default), |(_, value, from)| (value, from)))
}

/// Whether people of a tenant have to have a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MfaPolicy {
    /// Nobody can set one up.
    Off,
    Optional,
    Required,
}

/// What a tenant asks of every request: of people's second factors, and how many there may be in a minute.
pub(super) async fn of_requests(app: &App, tenant: TenantId) -> Result<(MfaPolicy, Option<u32>), StoreError> {
    let all = all_at(app, Place { tenant, agent: None, user: None }).await?;
    let of = |key: &str| all.iter().find(|(setting, ..)| setting.key == key).map(|(_, value, _)| value);
    let mfa = match of(MFA_POLICY).and_then(Value::as_str) {
        Some("off") => MfaPolicy::Off,
        Some("required") => MfaPolicy::Required,
        _ => MfaPolicy::Optional,
    };
    let most = of(API_REQUESTS_PER_MINUTE).and_then(Value::as_u64);
    Ok((mfa, most.map(|most| u32::try_from(most).unwrap_or(u32::MAX))))
}

/// Tenants that keep their runs' events for a shorter time than the install, and that time in ms.
pub(crate) async fn shorter_run_events(app: &App) -> Result<Vec<(TenantId, i64)>, StoreError> {
    let set = store::set_for_tenants(app.database.read(), RUN_EVENTS_DAYS).await?;
    let kept =
        set.into_iter().filter_map(|(tenant, days)| Some((tenant, days.as_i64()?.saturating_mul(DAY_MS))));
    let of_install = run_events_kept_ms(app).await?;
    Ok(kept.filter(|(_, kept_ms)| *kept_ms < of_install).collect())
}

/// How long the events of every tenant's runs are kept at most.
pub(crate) async fn run_events_kept_ms(app: &App) -> Result<i64, StoreError> {
    let of_platform = store::set_for_platform(app.database.read(), RUN_EVENTS_DAYS).await?;
    let of_platform = of_platform.and_then(|days| days.as_i64()).map(|days| days.saturating_mul(DAY_MS));
    Ok(of_platform.map_or(app.config.run_events_kept_ms, |kept| kept.min(app.config.run_events_kept_ms)))
}

/// How long a question about a tool call of this agent waits for its answer: at most what the operator set at the start.
pub(crate) async fn approval_expiry_ms(
    app: &App,
    tenant: TenantId,
    agent: AgentId,
) -> Result<i64, StoreError> {
    let (value, from) =
        value(app, APPROVAL_EXPIRY_HOURS, Place { tenant, agent: Some(agent), user: None }).await?;
    let bound = app.config.approval_expiry_ms;
    let hours = value.as_i64().filter(|_| from != Level::Default);
    Ok(hours.map_or(bound, |hours| hours.saturating_mul(HOUR_MS).min(bound)))
}

/// Tools of this agent whose calls wait for somebody, besides those of its own list.
pub(crate) async fn approval_required_tools(
    app: &App,
    tenant: TenantId,
    agent: AgentId,
) -> Result<Vec<String>, StoreError> {
    let place = Place { tenant, agent: Some(agent), user: None };
    Ok(names(&value(app, APPROVAL_REQUIRED_TOOLS, place).await?.0))
}

/// What counts for a place, and where each value comes from. One's own is for everybody; another's wants the right to
/// see the tenant.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    agent: Option<String>,
    user: Option<UserId>,
) -> Result<Vec<SettingItem>, Error> {
    if agent.is_some() || user.is_some_and(|user| user != caller.user) {
        authority::require(app, caller, "tenant:read", Resource::new("tenant", caller.tenant)).await?;
    }
    let agent = match agent {
        None => None,
        Some(name) => {
            let found = agents::find(app.database.read(), caller.tenant, &name).await?;
            Some(found.ok_or_else(|| Error::Invalid("agent", "there is no such agent".into()))?.id)
        }
    };
    let place = Place { tenant: caller.tenant, agent, user: Some(user.unwrap_or(caller.user)) };
    let items = set_at(app, place).await?.into_iter().map(|(setting, set)| {
        let (value, from) = resolve(setting, default_of(app, setting.key), &set);
        SettingItem {
            key: setting.key,
            value,
            from,
            set: set.into_iter().map(|(level, value)| SetValue { level, value }).collect(),
            kind: setting.kind.as_str(),
            choices: match setting.kind {
                Kind::Choice(choices) => Some(choices.to_vec()),
                _ => None,
            },
            description: setting.description,
            allowed_at: setting.set_at.to_vec(),
        }
    });
    Ok(items.collect())
}

/// A level to set at, as it is stored; asks whether the caller may.
async fn scope(
    app: &App,
    caller: &Caller,
    text: &str,
) -> Result<(Level, String, Option<authority::Permit>), Error> {
    let of_tenant = Resource::new("tenant", caller.tenant);
    match text.split_once(':') {
        None if text == "user" => {
            let place = Place { tenant: caller.tenant, agent: None, user: Some(caller.user) };
            let [.., scope] = place.scopes();
            Ok((Level::User, scope, None))
        }
        None if text == "platform" => {
            let permit = authority::require(app, caller, "platform:manage", Resource::any("setting")).await?;
            Ok((Level::Platform, text.to_owned(), Some(permit)))
        }
        Some(("agent", name)) => {
            let found = agents::find(app.database.read(), caller.tenant, name).await?;
            let mut resource = Resource::new("agent", name);
            if let Some(found) = &found {
                resource = resource.of_agent(found.id);
            }
            let permit = authority::require(app, caller, "agent:update", resource).await?;
            Ok((Level::Agent, format!("agent:{}", found.ok_or(Error::NotFound)?.id), Some(permit)))
        }
        _ => {
            let permit = authority::require(app, caller, "tenant:update", of_tenant).await?;
            if text != "tenant" {
                return Err(Error::NotFound);
            }
            Ok((Level::Tenant, format!("tenant:{}", caller.tenant), Some(permit)))
        }
    }
}

fn checked(setting: &Declared, value: Value) -> Result<Value, Error> {
    let invalid = |expected: String| Err(Error::Invalid("value", expected));
    match setting.kind {
        Kind::Number(least, most) => match value.as_i64() {
            Some(number) if (least..=most).contains(&number) => Ok(value),
            _ => invalid(format!("expected a whole number from {least} to {most}")),
        },
        Kind::Choice(choices) => match value.as_str() {
            Some(choice) if choices.contains(&choice) => Ok(value),
            _ => invalid(format!("expected one of {}", choices.join(", "))),
        },
        Kind::Tools => {
            let listed = names(&value);
            if value.as_array().is_none_or(|all| all.len() != listed.len() || all.len() > TOOLS_MAX) {
                return invalid(format!("expected a list of at most {TOOLS_MAX} tools' names"));
            }
            Ok(union(&json!([]), &value))
        }
    }
}

pub(super) async fn put(app: &App, caller: &Caller, at: &str, key: &str, value: Value) -> Result<(), Error> {
    change(app, caller, at, key, Some(value)).await
}

pub(super) async fn delete(app: &App, caller: &Caller, at: &str, key: &str) -> Result<(), Error> {
    change(app, caller, at, key, None).await
}

async fn change(app: &App, caller: &Caller, at: &str, key: &str, value: Option<Value>) -> Result<(), Error> {
    let (level, scope, permit) = scope(app, caller, at).await?;
    let setting = declared(key).ok_or(Error::NotFound)?;
    if !setting.set_at.contains(&level) {
        return Err(Error::Invalid(
            "scope",
            "this setting can't be set there; `allowed_at` says where".into(),
        ));
    }
    let value = value.map(|value| checked(setting, value)).transpose()?;
    let entry = permit.map(|permit| permit.entry(json!({ "scope": at, "key": key, "value": value })));
    let (key, by) = (setting.key, caller.user);
    let changed = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                match &value {
                    Some(value) => store::put(tx, &scope, key, value, by, unix_ms()).await?,
                    None if store::delete(tx, &scope, key).await? == 0 => return Err(Error::NotFound),
                    None => {}
                }
                if let Some(entry) = &entry {
                    audit::add(tx, entry).await?;
                }
                Ok(())
            })
        })
        .await;
    app.standings.forget_all();
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        API_REQUESTS_PER_MINUTE, APPROVAL_EXPIRY_HOURS, APPROVAL_REQUIRED_TOOLS, Level, MFA_POLICY, UI_THEME,
        declared, resolve,
    };

    fn check(key: &str, default: Value, set: &[(Level, Value)], expected: (Value, Level)) {
        assert_eq!(resolve(declared(key).unwrap(), default, set), expected, "{key} {set:?}");
    }

    #[test]
    fn the_nearest_value_counts_where_levels_may_differ() {
        let (light, dark) = (json!("light"), json!("dark"));
        check(UI_THEME, json!("system"), &[], (json!("system"), Level::Default));
        let set = [(Level::Tenant, dark), (Level::User, light.clone())];
        check(UI_THEME, json!("system"), &set, (light, Level::User));
    }

    #[test]
    fn the_strictest_value_counts_where_a_level_may_only_narrow() {
        let hours = |platform: i64, tenant: i64, agent: i64| {
            [(Level::Platform, json!(platform)), (Level::Tenant, json!(tenant)), (Level::Agent, json!(agent))]
        };
        check(APPROVAL_EXPIRY_HOURS, json!(72), &hours(48, 100, 5), (json!(5), Level::Agent));
        check(APPROVAL_EXPIRY_HOURS, json!(72), &hours(48, 10, 100), (json!(10), Level::Tenant));
        check(APPROVAL_EXPIRY_HOURS, json!(72), &hours(100, 200, 300), (json!(72), Level::Default));
        let most = |tenant: i64| [(Level::Tenant, json!(tenant))];
        check(API_REQUESTS_PER_MINUTE, Value::Null, &most(5), (json!(5), Level::Tenant));
        check(API_REQUESTS_PER_MINUTE, json!(3), &most(5), (json!(3), Level::Default));
        let set = [(Level::Tenant, json!(["b", "a"])), (Level::Agent, json!(["a"]))];
        check(APPROVAL_REQUIRED_TOOLS, json!([]), &set, (json!(["a", "b"]), Level::Tenant));
    }

    #[test]
    fn a_tenant_asks_for_no_less_of_its_people_than_the_platform() {
        let [off, optional, required] = ["off", "optional", "required"].map(|choice| json!(choice));
        let set = |platform: &Value, tenant: &Value| {
            [(Level::Platform, platform.clone()), (Level::Tenant, tenant.clone())]
        };
        let alone = [(Level::Tenant, off.clone())];
        check(MFA_POLICY, optional.clone(), &alone, (off.clone(), Level::Tenant));
        check(MFA_POLICY, optional.clone(), &set(&off, &required), (required.clone(), Level::Tenant));
        check(MFA_POLICY, optional.clone(), &set(&required, &off), (required.clone(), Level::Platform));
        check(MFA_POLICY, optional.clone(), &set(&optional, &off), (optional.clone(), Level::Platform));
    }
}
