//! Puts the domains' routes together, and refuses to when two of them want the same place.

use std::{collections::HashSet, sync::Arc};

use axum::{Router, http::Method};
use platform::database::Migration;
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, RefOr,
    path::{Operation, PathItem},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::App;

/// What a domain gives to the program.
#[derive(Debug, Clone, Copy)]
pub struct Domain {
    pub name: &'static str,
    /// Path prefixes that are this domain's alone.
    pub prefixes: &'static [&'static str],
    pub routes: fn() -> OpenApiRouter<Arc<App>>,
    pub migrations: &'static [Migration],
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    #[error("domains `{0}` and `{1}` both claim the prefix {2}")]
    Prefix(&'static str, &'static str, &'static str),
    #[error("domain `{0}` has a route outside its prefixes: {1}")]
    Outside(&'static str, String),
    #[error("{0} {1} is mounted twice")]
    Twice(String, String),
}

pub struct Assembled {
    pub router: Router<Arc<App>>,
    pub openapi: OpenApi,
}

impl std::fmt::Debug for Assembled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembled").finish_non_exhaustive()
    }
}

impl Assembled {
    /// The routes that ask the policy, by method and path: those that name an action of its catalogue.
    #[must_use]
    pub fn asking(&self) -> HashSet<(Method, String)> {
        let mut found = HashSet::new();
        for (path, item) in &self.openapi.paths.paths {
            for (method, operation) in operations(item) {
                let extensions = operation.extensions.as_ref();
                let action =
                    extensions.and_then(|extensions| extensions.get(ACTION)).and_then(|name| name.as_str());
                if action.is_some_and(|action| action.contains(':')) {
                    found.insert((method, path.clone()));
                }
            }
        }
        found
    }
}

/// Mounts every domain. Two that claim one prefix, or one method and path, are an error before any port is bound.
pub fn assemble(domains: &[Domain]) -> Result<Assembled, AssembleError> {
    check_prefixes(domains)?;
    let mut router = Router::new();
    let mut openapi = document();
    let mut seen = HashSet::new();
    for domain in domains {
        let (routes, mut described) = (domain.routes)().split_for_parts();
        for (path, item) in &mut described.paths.paths {
            name_operations(domain.name, item);
            let inside = domain.prefixes.iter().any(|prefix| under(path, prefix));
            if !inside {
                return Err(AssembleError::Outside(domain.name, path.clone()));
            }
            for (method, _) in operations(item) {
                if !seen.insert((path.clone(), method.clone())) {
                    return Err(AssembleError::Twice(method.to_string(), path.clone()));
                }
            }
        }
        router = router.merge(routes);
        openapi.merge(described);
    }
    Ok(Assembled { router, openapi })
}

/// Says in the document which action an operation asks the policy for; `own` and `public` are none of its.
const ACTION: &str = "x-soma-action";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Function names are unique in a domain; a client's generator wants names that are unique in the whole document.
fn name_operations(domain: &str, item: &mut PathItem) {
    let operations = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
        &mut item.head,
        &mut item.options,
        &mut item.trace,
    ];
    for operation in operations.into_iter().flatten() {
        if let Some(id) = &mut operation.operation_id {
            *id = format!("{domain}_{id}");
        }
        name_problems(operation);
    }
}

/// A problem has a media type of its own (RFC 9457); what describes a route calls every body JSON.
fn name_problems(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let is_problem = |content: &RefOr<Content>| {
            let RefOr::T(Content { schema: Some(RefOr::Ref(at)), .. }) = content else { return false };
            at.ref_location.ends_with("/Problem")
        };
        if response.content.get(JSON).is_some_and(is_problem)
            && let Some(content) = response.content.shift_remove(JSON)
        {
            response.content.insert(PROBLEM.to_owned(), content);
        }
    }
}

fn check_prefixes(domains: &[Domain]) -> Result<(), AssembleError> {
    let mut claimed: Vec<(&'static str, &'static str)> = Vec::new();
    for domain in domains {
        for prefix in domain.prefixes {
            let earlier = claimed.iter().find(|(_, other)| under(prefix, other) || under(other, prefix));
            if let Some((other, _)) = earlier {
                return Err(AssembleError::Prefix(other, domain.name, prefix));
            }
            claimed.push((domain.name, prefix));
        }
    }
    Ok(())
}

fn under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
        (Method::HEAD, &item.head),
        (Method::OPTIONS, &item.options),
        (Method::TRACE, &item.trace),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("SomaAgent01")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A self-hosted platform for AI agents. Errors are application/problem+json (RFC 9457); under /v1 they have OpenAI's shape.",
        ))
        .build();
    let mut openapi = OpenApiBuilder::new()
        .info(info)
        .security(Some(
            ["api_key", "session"].map(|name| SecurityRequirement::new(name, Vec::<String>::new())),
        ))
        .build();
    let components = openapi.components.get_or_insert_default();
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("api_key", key);
    let cookie = ApiKey::Cookie(ApiKeyValue::new("session_id"));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    openapi
}
