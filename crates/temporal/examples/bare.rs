//! What a turn on Temporal is measured beside: a workflow of three activities that do nothing, by the SDK alone.
//!
//! `bare HOST:PORT` runs one for each line that it reads and answers with its microseconds, from the start to the result.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a measuring program: what goes wrong ends it")]

use std::time::{Duration, Instant};

use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, WorkflowGetResultOptions, WorkflowStartOptions,
};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::{
    ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult,
    activities::{ActivityContext, ActivityError},
};

const ACTIVITIES: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(10);

#[workflow]
#[derive(Default)]
struct Bare;

#[workflow_methods]
impl Bare {
    #[run]
    async fn run(context: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        for _ in 0..ACTIVITIES {
            let options = ActivityOptions::start_to_close_timeout(TIMEOUT);
            context.execute_activity(Nothing::done, (), options).await?;
        }
        Ok(())
    }
}

struct Nothing;

#[activities]
impl Nothing {
    #[activity]
    async fn done(_context: ActivityContext, (): ()) -> Result<(), ActivityError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("host:port of the server");
    let queue = format!("bare-{}", std::process::id());
    let target = url::Url::parse(&format!("http://{address}")).expect("an address");
    let connection = Connection::connect(ConnectionOptions::new(target).identity("bare").build()).await;
    let client = Client::new(connection.expect("the server answers"), ClientOptions::new("default").build())
        .expect("a client");
    let options = WorkerOptions::new(queue.clone())
        .register_workflow::<Bare>()
        .expect("a workflow")
        .register_activities(Nothing)
        .build();
    let worked = client.clone();
    // Workflows are not `Send`, so they have a thread.
    let handle = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        handle.block_on(async move {
            let runtime = Runtime::from_current_tokio(Default::default()).expect("a runtime");
            Worker::new(&runtime, worked, options).expect("a worker").run().await.expect("it works");
        });
    });
    for (number, line) in std::io::stdin().lines().enumerate() {
        line.expect("readable input");
        let began = Instant::now();
        let start = WorkflowStartOptions::new(queue.clone(), format!("{queue}-{number}")).build();
        let handle = client.start_workflow(Bare::run, (), start).await.expect("it starts");
        handle.get_result(WorkflowGetResultOptions::default()).await.expect("it ends well");
        println!("{}", began.elapsed().as_micros());
    }
}
