//! The shape of `policy/data.json`: what may be granted, and to whom.
//!
//! The rules read the document; this module refuses one in which a misspelt name would grant or deny in silence.

use std::collections::BTreeMap;

pub use contracts::policy::Scope;
use serde::{Deserialize, Serialize};

use super::LoadError;

/// Actions, roles, and the tenants' names for roles, each by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Catalogue {
    /// By codename, `resource:action`.
    pub actions: BTreeMap<String, Action>,
    pub roles: BTreeMap<String, Role>,
    /// What a tenant calls its roles (`owner`, `admin`, `member`, `viewer`), and the roles that each name stands for.
    pub tenant_roles: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// `platform`: about tenants or the installation. A role of the platform does it to any tenant.
    pub scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub scope: Scope,
    /// Codenames and the patterns `*`, `resource:*` and `resource:prefix_*`.
    pub permissions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    actions: BTreeMap<String, Action>,
    roles: BTreeMap<String, Role>,
    tenant_roles: BTreeMap<String, Vec<String>>,
    tool_catalog: BTreeMap<String, Tool>,
    tenant_tool_flags: BTreeMap<String, BTreeMap<String, Flag>>,
    deny_list: Vec<DenyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    #[expect(dead_code, reason = "the rules read it; here only its type counts")]
    enabled: bool,
    #[expect(dead_code, reason = "the rules read it; here only its type counts")]
    approval: Option<Approval>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Approval {
    Required,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flag {
    #[expect(dead_code, reason = "the rules read it; here only its type counts")]
    enabled: bool,
}

/// Hits when all that it names fit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DenyEntry {
    tenant: Option<String>,
    user: Option<String>,
    action: Option<String>,
    tool: Option<String>,
}

impl Catalogue {
    /// Whether a pattern covers any action. No other pattern means anything to the policy.
    #[must_use]
    pub fn knows(&self, pattern: &str) -> bool {
        self.actions.keys().any(|action| covers(pattern, action))
    }

    /// The actions that any of these patterns covers, in order.
    pub fn covered<'a>(&'a self, patterns: &'a [String]) -> impl Iterator<Item = &'a str> {
        let actions = self.actions.keys().map(String::as_str);
        actions.filter(|action| patterns.iter().any(|pattern| covers(pattern, action)))
    }

    /// Reads and checks the whole document, also the parts that only the rules use.
    pub(super) fn read(data: &serde_json::Value) -> Result<Self, LoadError> {
        let data = Data::deserialize(data).map_err(LoadError::Data)?;
        data.check().map_err(LoadError::Catalogue)?;
        Ok(Self { actions: data.actions, roles: data.roles, tenant_roles: data.tenant_roles })
    }
}

impl Data {
    fn check(&self) -> Result<(), String> {
        for action in self.actions.keys() {
            if !is_codename(action) {
                return Err(format!("action {action} is not resource:action"));
            }
        }
        for (name, role) in &self.roles {
            for pattern in &role.permissions {
                self.covers_something(pattern, &format!("role {name}"))?;
            }
        }
        for (name, roles) in &self.tenant_roles {
            self.check_tenant_role(name, roles)?;
        }
        for (tenant, flags) in &self.tenant_tool_flags {
            for tool in flags.keys() {
                self.knows_tool(tool, &format!("tenant_tool_flags of {tenant}"))?;
            }
        }
        self.deny_list.iter().try_for_each(|entry| self.check_deny_entry(entry))
    }

    fn check_tenant_role(&self, name: &str, roles: &[String]) -> Result<(), String> {
        if self.roles.contains_key(name) && roles != [name] {
            return Err(format!("tenant role {name} is a role's name and stands for others"));
        }
        for role in roles {
            match self.roles.get(role).map(|role| role.scope) {
                None => return Err(format!("tenant role {name} stands for unknown role {role}")),
                Some(Scope::Platform) => {
                    return Err(format!("tenant role {name} reaches beyond the tenant"));
                }
                Some(Scope::Agent) => {
                    return Err(format!("tenant role {name} reaches no agent: {role} needs one"));
                }
                Some(Scope::Tenant) => {}
            }
        }
        Ok(())
    }

    fn check_deny_entry(&self, entry: &DenyEntry) -> Result<(), String> {
        let named = [&entry.tenant, &entry.user, &entry.action, &entry.tool];
        if named.into_iter().all(Option::is_none) {
            return Err("an entry of deny_list names nothing and would deny everything".to_owned());
        }
        if let Some(pattern) = &entry.action {
            self.covers_something(pattern, "deny_list")?;
        }
        entry.tool.as_ref().map_or(Ok(()), |tool| self.knows_tool(tool, "deny_list"))
    }

    fn knows_tool(&self, tool: &str, place: &str) -> Result<(), String> {
        let known = self.tool_catalog.contains_key(tool);
        known.then_some(()).ok_or_else(|| format!("{place} names unknown tool {tool}"))
    }

    fn covers_something(&self, pattern: &str, place: &str) -> Result<(), String> {
        let covers = self.actions.keys().any(|action| covers(pattern, action));
        covers.then_some(()).ok_or_else(|| format!("{place} names unknown action {pattern}"))
    }
}

/// What `tables.rego` says too: it knows no other wildcard, so one that ends within a word covers nothing.
fn covers(pattern: &str, action: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern == action,
        Some("") => true,
        Some(prefix) => prefix.contains(':') && prefix.ends_with([':', '_']) && action.starts_with(prefix),
    }
}

fn is_codename(text: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split_once(':').is_some_and(|(resource, verb)| word(resource) && word(verb))
}
