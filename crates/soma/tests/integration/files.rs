//! The files of a conversation's workspace, in and out over HTTP: the same that its tools see, and none beside them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Reply, Server, text};

const MIB: usize = 1024 * 1024;

fn content(conversation: &str, path: &str) -> String {
    let path: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
    format!("/api/v2/conversations/{conversation}/files/content?path={path}")
}

async fn put(api: &Api, conversation: &str, path: &str, body: impl Into<reqwest::Body>) -> Reply {
    Api::reply(api.request(Method::PUT, &content(conversation, path)).body(body)).await
}

async fn names(api: &Api, conversation: &str, query: &str) -> Vec<(Value, Value, Value)> {
    let page = api.get(&format!("/api/v2/conversations/{conversation}/files?{query}")).await.expect(200);
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| (item["path"].clone(), item["kind"].clone(), item["size"].clone())).collect()
}

#[tokio::test]
async fn a_file_that_is_uploaded_is_there_for_tools_and_what_tools_write_is_downloaded() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    assert_eq!(names(&api, &conversation, "").await, []);

    assert_eq!(put(&api, &conversation, "data/in.csv", "a,b\n1,2\n").await.status, 204);
    let read = r#"[[tool file_read {"path": "data/in.csv"}]] [[say {result}]]"#;
    assert_eq!(api.turn(&conversation, read).await.answer(), "a,b\n1,2\n");
    let write = r#"[[tool file_write {"path": "data/böse \"x\".html", "content": "<script>1</script>"}]]"#;
    api.turn(&conversation, write).await;

    let file = json!("file");
    assert_eq!(
        names(&api, &conversation, "path=data").await,
        [(json!("data/böse \"x\".html"), file.clone(), json!(18)), (json!("data/in.csv"), file, json!(8)),]
    );
    assert_eq!(names(&api, &conversation, "").await[0].1, "directory");
    let page =
        api.get(&format!("/api/v2/conversations/{conversation}/files?path=data&limit=1")).await.expect(200);
    let cursor: String =
        url::form_urlencoded::byte_serialize(page["next_cursor"].as_str().unwrap().as_bytes()).collect();
    assert_eq!(names(&api, &conversation, &format!("path=data&limit=1&cursor={cursor}")).await.len(), 1);

    let reply = api.get(&content(&conversation, "data/böse \"x\".html")).await;
    assert_eq!((reply.status, &reply.body), (200, &json!("<script>1</script>")));
    let header = |name: &str| text(reply.headers[name].as_bytes());
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("content-length"), "18");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(
        header("content-disposition")
            .starts_with("attachment; filename=\"b_se__x_.html\"; filename*=UTF-8''b%C3%B6se")
    );
    assert!(header("content-security-policy").contains("sandbox"));

    assert_eq!(api.delete(&content(&conversation, "data")).await.problem(409), "not_empty");
    assert_eq!(api.delete(&content(&conversation, "data/in.csv")).await.status, 204);
    assert_eq!(api.delete(&content(&conversation, "data/in.csv")).await.problem(404), "not_found");
    assert_eq!(names(&api, &conversation, "path=data").await.len(), 1);
    let audit = api.get("/api/v2/audit").await.expect(200);
    let of = |action: &str| {
        let entries = audit["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == action);
        entries.map(|entry| entry["details"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("file:upload"), [json!({ "path": "data/in.csv", "bytes": 8 })]);
    assert_eq!(of("file:delete"), [json!({ "path": "data/in.csv" })]);
}

#[tokio::test]
async fn no_path_and_no_link_leads_out_of_the_workspace() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let neighbour = server.data().join("neighbour");
    std::fs::write(&neighbour, "not yours").unwrap();
    let code = "ln -s /etc out; ln -s ../../../neighbour near; ln -s /etc/passwd passwd; mkfifo fifo";
    let program = json!({ "language": "bash", "code": code });
    api.turn(&conversation, &format!("[[tool code_execute {program}]]")).await;

    for path in
        ["out/passwd", "near", "passwd", "fifo", "../../../neighbour", "/etc/passwd", "out", "", ".", "a\0b"]
    {
        let read = api.get(&content(&conversation, path)).await;
        assert!(matches!(read.status, 404 | 422), "{path:?}: {} {}", read.status, read.body);
    }
    for path in ["out/soma-was-here", "../x", "/etc/soma-was-here", "", "."] {
        assert_eq!(put(&api, &conversation, path, "x").await.problem(422), "invalid", "{path:?}");
    }
    for path in ["out/passwd", "../../../neighbour", "/etc/passwd", "", "."] {
        assert_eq!(api.delete(&content(&conversation, path)).await.problem(422), "invalid", "{path:?}");
    }
    // A link's own name is replaced or removed, not what it leads to.
    assert_eq!(put(&api, &conversation, "near", "mine").await.status, 204);
    assert_eq!(api.delete(&content(&conversation, "passwd")).await.status, 204);
    assert_eq!(std::fs::read_to_string(neighbour).unwrap(), "not yours");
    assert!(std::path::Path::new("/etc/passwd").exists());
}

#[tokio::test]
async fn a_file_that_is_too_large_leaves_nothing_whether_its_length_is_told_or_not() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let large = vec![b'x'; 25 * MIB];
    assert_eq!(put(&api, &conversation, "fits", large.clone()).await.status, 204);

    let told = put(&api, &conversation, "told", vec![b'x'; 25 * MIB + 1]).await;
    assert_eq!(told.problem(413), "too_large");
    let pieces = (0..27).map(|_| Ok::<_, std::io::Error>(vec![b'x'; MIB]));
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    assert_eq!(put(&api, &conversation, "untold", stream).await.problem(413), "too_large");
    let broken =
        (0..3).map(|piece| if piece < 2 { Ok(vec![b'x'; 10]) } else { Err(std::io::Error::other("gone")) });
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(broken));
    let sent = api.request(Method::PUT, &content(&conversation, "fits")).body(stream).send().await;
    assert!(sent.is_err(), "{sent:?}");

    assert_eq!(names(&api, &conversation, "").await, [(json!("fits"), json!("file"), json!(25 * MIB))]);
    let kept = api.get(&content(&conversation, "fits")).await;
    assert_eq!(kept.body.as_str().map(str::len), Some(large.len()), "a broken upload replaces nothing");
}

#[tokio::test]
async fn who_may_read_files_may_not_write_them() {
    let server = Server::start().await;
    let conversation = server.api().conversation().await;
    put(&server.api(), &conversation, "a", "x").await;
    let viewer = server.member("vera@example.org", &["viewer"]).await;
    assert_eq!(viewer.get(&content(&conversation, "a")).await.status, 200);
    assert_eq!(put(&viewer, &conversation, "a", "y").await.problem(403), "denied");
    let user = server.member("uli@example.org", &["user"]).await;
    assert_eq!(put(&user, &conversation, "a", "y").await.status, 204);
    assert_eq!(user.delete(&content(&conversation, "a")).await.problem(403), "denied");
}
