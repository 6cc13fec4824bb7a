//! Search attributes: by which an operator finds runs on the server, as in
//! `temporal workflow list --query "SomaTenant = '...' AND SomaState = 'waiting'"`.
//!
//! They are ids and a state, nothing else: whoever may look at the server may not be one who may read conversations.

use std::{collections::HashMap, time::Duration};

use contracts::engine::Start;
use temporalio_client::{
    Client, NamespacedClient as _,
    grpc::{OperatorService, WorkflowService},
    tonic::{Code, Request, Status},
};
use temporalio_common::{
    protos::temporal::api::{
        enums::v1::IndexedValueType,
        operatorservice::v1::{AddSearchAttributesRequest, ListSearchAttributesRequest},
        workflowservice::v1::CountWorkflowExecutionsRequest,
    },
    search_attributes::{SearchAttributeKey, SearchAttributeUpdate, SearchAttributes},
};

const TENANT: SearchAttributeKey<String> = SearchAttributeKey::keyword("SomaTenant");
const AGENT: SearchAttributeKey<String> = SearchAttributeKey::keyword("SomaAgent");
/// `running`, or `waiting` for a person. How a run ended is the server's own `ExecutionStatus`.
const STATE: SearchAttributeKey<String> = SearchAttributeKey::keyword("SomaState");
const ALL: [&str; 3] = ["SomaTenant", "SomaAgent", "SomaState"];

const RUNNING: &str = "running";
const WAITING: &str = "waiting";

/// Waits before the server is asked once more whether it knows an attribute that was just added.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(crate) fn of(start: &Start) -> SearchAttributes {
    SearchAttributes::new([
        TENANT.value_set(start.tenant.to_string()),
        AGENT.value_set(start.agent.to_string()),
        STATE.value_set(RUNNING.to_owned()),
    ])
}

pub(crate) fn waiting(waits: bool) -> SearchAttributeUpdate {
    STATE.value_set(if waits { WAITING } else { RUNNING }.to_owned())
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "the namespace lacks some of the search attributes SomaTenant, SomaAgent and SomaState, and this program may not \
         add them ({0}): add them, as by `temporal operator search-attribute create --type Keyword --name SomaTenant`"
    )]
    Refused(String),
    #[error("the namespace's search attribute {0} is of another type than Keyword")]
    Type(&'static str),
}

/// Adds what the namespace lacks, and waits until the server takes it: the caller bounds the time.
pub(crate) async fn have(client: &mut Client) -> Result<(), Problem> {
    let refused = |status: Status| Problem::Refused(status.message().to_owned());
    let namespace = client.namespace();
    let request = ListSearchAttributesRequest { namespace: namespace.clone() };
    let listed = OperatorService::list_search_attributes(client, Request::new(request)).await;
    let known = listed.map_err(refused)?.into_inner().custom_attributes;
    let mut missing = HashMap::new();
    for name in ALL {
        match known.get(name) {
            Some(kind) if *kind == IndexedValueType::Keyword as i32 => {}
            Some(_) => return Err(Problem::Type(name)),
            None => {
                missing.insert(name.to_owned(), IndexedValueType::Keyword as i32);
            }
        }
    }
    if !missing.is_empty() {
        let request = AddSearchAttributesRequest { search_attributes: missing, namespace: namespace.clone() };
        match OperatorService::add_search_attributes(client, Request::new(request)).await {
            Ok(_) => tracing::info!(namespace, "search attributes were added"),
            // By another process that starts beside this one.
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(refused(status)),
        }
    }
    // Some that are listed are not taken yet: another process may have added them a moment ago.
    let query = ALL.map(|name| format!("{name} = '{RUNNING}'")).join(" AND ");
    loop {
        let request = CountWorkflowExecutionsRequest { namespace: namespace.clone(), query: query.clone() };
        if WorkflowService::count_workflow_executions(client, Request::new(request)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
