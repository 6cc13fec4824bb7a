//! Clients for one configured origin.

use super::*;

fn client(egress: &Egress, base: &str) -> Client {
    egress.client_for(&base.parse().unwrap(), ClientOptions::default()).unwrap()
}

async fn refused(client: &Client, url: &str) -> bool {
    let error = client.get(url).send().await.unwrap_err();
    matches!(Error::of_call(&url.parse().unwrap(), error), Error::OtherOrigin { .. })
}

#[tokio::test]
async fn the_configured_origin_needs_no_list() {
    let server = Server::saying(plain("model")).await;
    let egress = Egress::new(AllowList::default());
    let client = client(&egress, &format!("http://127.0.0.1:{}/v1", server.port));
    let url = format!("http://127.0.0.1:{}/v1/chat", server.port);
    assert_eq!(client.get(url).send().await.unwrap().text().await.unwrap(), "model");
}

#[tokio::test]
async fn a_configured_name_may_be_anywhere() {
    let server = Server::saying(plain("model")).await;
    let egress = Egress::with_lookup(AllowList::default(), Names::answering(&[&["127.0.0.1"]]));
    let base = format!("http://Model.Test:{}/", server.port);
    let response = client(&egress, &base).get(&base).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "model");
}

#[tokio::test]
async fn every_other_origin_is_refused_though_the_list_has_it() {
    let model = Server::saying(plain("model")).await;
    let other = Server::saying(plain("other")).await;
    let names = Names::answering(&[&["127.0.0.1"]]);
    let egress = Egress::with_lookup("127.0.0.0/8".parse().unwrap(), names);
    let (port, other_port) = (model.port, other.port);
    let by_address = client(&egress, &format!("http://127.0.0.1:{port}/v1"));
    let by_name = client(&egress, &format!("http://model.test:{port}/v1"));
    for url in [
        format!("http://127.0.0.1:{other_port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://model.test:{other_port}/"),
        format!("http://other.test:{port}/"),
        format!("http://model.test.:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://model.test:{port}/"),
        "http://egress-refused.invalid/".to_owned(),
        "http://[::1]/".to_owned(),
        "https://example.com/".to_owned(),
    ] {
        assert!(refused(&by_address, &url).await && refused(&by_name, &url).await, "{url}");
    }
    assert!(refused(&by_address, &format!("http://model.test:{port}/")).await);
    assert!(refused(&by_name, &format!("http://127.0.0.1:{port}/")).await);
    assert_eq!((model.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn redirects_come_back_as_answers() {
    let other = Server::saying(plain("other")).await;
    let model = Server::redirecting(&other.url()).await;
    let egress = Egress::new(AllowList::default());
    let response = client(&egress, &model.url()).get(model.url()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), other.connections()), (302, 0));
}

#[tokio::test]
async fn connections_are_kept() {
    let model = Server::start(|mut stream| async move {
        loop {
            stream.write_all(plain("x").as_bytes()).await?;
            if read_head(&mut stream).await.is_empty() {
                return Ok(());
            }
        }
    })
    .await;
    let egress = Egress::new(AllowList::default());
    let client = client(&egress, &model.url());
    for _ in 0..3 {
        assert_eq!(client.get(model.url()).send().await.unwrap().text().await.unwrap(), "x");
    }
    assert_eq!(model.connections(), 1);
}

#[tokio::test]
async fn a_stream_may_last_longer_than_the_bound_on_silence() {
    let model = Server::start(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(b"1\r\na\r\n").await?;
        }
        std::future::pending().await
    })
    .await;
    let options = ClientOptions { read_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let base: Url = model.url().parse().unwrap();
    let client = Egress::new(AllowList::default()).client_for(&base, options).unwrap();
    let mut response = client.get(base).send().await.unwrap();
    let mut seen = 0;
    let error = loop {
        match response.chunk().await {
            Ok(piece) => seen += piece.map_or(0, |piece| piece.len()),
            Err(error) => break error,
        }
    };
    assert!(seen == 10 && error.is_timeout(), "{seen} {error:?}");
}

#[test]
fn a_base_that_is_no_plain_web_address_is_refused() {
    let egress = Egress::new(AllowList::default());
    for base in ["ftp://a/", "http://key@127.0.0.1/", "data:,x"] {
        assert!(egress.client_for(&base.parse().unwrap(), ClientOptions::default()).is_err(), "{base}");
    }
}
