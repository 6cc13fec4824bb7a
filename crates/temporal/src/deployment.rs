//! Versions of workers: a run whose workflow began on one version ends on that version.
//!
//! What a version names is the workflow's code, not the program's: most updates change no workflow, and then workers
//! old and new are of one version and go on with each other's runs.

use std::time::Duration;

use temporalio_client::{
    Client, NamespacedClient as _,
    grpc::WorkflowService,
    tonic::{Code, Request, Status},
};
use temporalio_common::{
    WorkerDeploymentVersion,
    protos::temporal::api::workflowservice::v1::{
        DescribeWorkerDeploymentRequest, SetWorkerDeploymentCurrentVersionRequest,
    },
    worker::{VersioningBehavior, WorkerDeploymentOptions},
};

use crate::connection::IDENTITY;

/// Between attempts at making this version the current one. The server knows a version only once its workers have
/// asked for work, and takes it only once there are some on each queue.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Attempts after which it is said why the version is not the current one yet, and again each time as many were made.
const SAY_AFTER: u32 = 30;

/// What a worker says of itself: a version of `deployment`, or of none, and then the server makes no difference.
pub(crate) fn options(deployment: Option<&str>, version: u32) -> WorkerDeploymentOptions {
    let Some(deployment) = deployment else {
        return WorkerDeploymentOptions::from_build_id(version.to_string());
    };
    let version =
        WorkerDeploymentVersion::builder().deployment_name(deployment).build_id(version.to_string());
    WorkerDeploymentOptions::new(version.build())
        .use_worker_versioning(true)
        .default_versioning_behavior(VersioningBehavior::Pinned)
        .build()
}

/// Has new runs begin on `version`, unless they begin on a later one already: its workers are still needed then, for
/// the runs that began on it. Ends when that is so.
pub(crate) async fn promote(mut client: Client, deployment: &str, version: u32) {
    let mut attempts: u32 = 0;
    loop {
        match once(&mut client, deployment, version).await {
            Ok(Current::This) => return,
            Ok(Current::Later(current)) => {
                tracing::warn!(
                    deployment,
                    version,
                    current,
                    "new runs begin on a later version; this worker goes on with runs of its own version only"
                );
                return;
            }
            Err(status) => {
                attempts += 1;
                if attempts.is_multiple_of(SAY_AFTER) {
                    let error = status.message();
                    tracing::warn!(deployment, version, error, "new runs do not begin on this version yet");
                }
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

enum Current {
    This,
    Later(u32),
}

async fn once(client: &mut Client, deployment: &str, version: u32) -> Result<Current, Status> {
    let request = DescribeWorkerDeploymentRequest {
        namespace: client.namespace(),
        deployment_name: deployment.to_owned(),
    };
    let described = WorkflowService::describe_worker_deployment(client, Request::new(request)).await;
    let described = described?.into_inner();
    let routing = described.worker_deployment_info.and_then(|info| info.routing_config).unwrap_or_default();
    let current = routing.current_deployment_version.map(|current| current.build_id).unwrap_or_default();
    // What is no number was made current by somebody who does not count as this program does.
    match current.parse::<u32>() {
        Ok(current) if current > version => return Ok(Current::Later(current)),
        Ok(current) if current == version => return Ok(Current::This),
        _ => {}
    }
    let request = SetWorkerDeploymentCurrentVersionRequest {
        namespace: client.namespace(),
        deployment_name: deployment.to_owned(),
        build_id: version.to_string(),
        // Another worker may be doing the same for a later version.
        conflict_token: described.conflict_token,
        identity: IDENTITY.to_owned(),
        ..Default::default()
    };
    match WorkflowService::set_worker_deployment_current_version(client, Request::new(request)).await {
        Ok(_) => {
            tracing::info!(deployment, version, "new runs begin on this version");
            Ok(Current::This)
        }
        Err(status) if status.code() == Code::AlreadyExists => Ok(Current::This),
        Err(status) => Err(status),
    }
}
