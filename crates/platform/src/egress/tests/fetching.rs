//! What `get` brings back, and where it doesn't go.

use super::*;

#[tokio::test]
async fn a_page_is_fetched_with_nothing_of_ours_but_its_address() {
    let server = Server::saying(plain("hello")).await;
    let egress = Egress::new(allowing(&[&server]));
    let fetched = egress.get(&server.url(), limits()).await.unwrap();
    let wished = Fetched {
        status: 200,
        url: server.url(),
        content_type: Some("text/plain".to_owned()),
        body: b"hello".to_vec(),
        truncated: false,
        redirects: 0,
    };
    assert_eq!(fetched, wished);
    let head = server.heads.lock().unwrap()[0].to_lowercase();
    let mut names: Vec<&str> =
        head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
}

#[tokio::test]
async fn an_error_status_is_an_answer() {
    let server = Server::saying("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").await;
    let fetched = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap();
    assert_eq!((fetched.status, fetched.body, fetched.content_type), (404, b"no".to_vec(), None));
}

#[tokio::test]
async fn addresses_are_recognised_in_every_spelling() {
    let server = Server::saying(plain("secret")).await;
    let egress = Egress::new(AllowList::default());
    let port = server.port;
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7F.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[64:ff9b::7f00:1]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
    ] {
        let error = egress.get(&format!("http://{host}:{port}/"), limits()).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{host}: {error:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let error = Egress::new(AllowList::default()).get("http://10.0.0.1/", limits()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the address 10.0.0.1:80 is private; an operator can allow it with SA01_EGRESS_ALLOW"
    );
}

#[tokio::test]
async fn what_is_no_plain_web_address_is_refused() {
    let egress = Egress::new("0.0.0.0/0,::/0".parse().unwrap());
    for url in [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://127.0.0.1/",
        "data:,x",
        "unix:/run/x",
        "ws://127.0.0.1/",
    ] {
        assert!(matches!(egress.get(url, limits()).await, Err(Error::Scheme(_))), "{url}");
    }
    for url in ["http://user@127.0.0.1/", "http://user:word@127.0.0.1/", "http://:word@127.0.0.1/"] {
        assert!(matches!(egress.get(url, limits()).await, Err(Error::UserInfo)), "{url}");
    }
    let long = format!("http://127.0.0.1/{}", "a".repeat(9000));
    for url in [
        "",
        "page.html",
        "//127.0.0.1/",
        "http://",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://a b/",
        &long,
    ] {
        assert!(matches!(egress.get(url, limits()).await, Err(Error::BadUrl(_))), "{url}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_where_it_may_go() {
    let target = Server::saying(plain("there")).await;
    let start = Server::redirecting(&target.url()).await;
    let egress = Egress::new(allowing(&[&start, &target]));
    let fetched = egress.get(&start.url(), limits()).await.unwrap();
    assert_eq!((fetched.url, fetched.body, fetched.redirects), (target.url(), b"there".to_vec(), 1));
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_port_or_address_is_refused() {
    let secret = Server::saying(plain("secret")).await;
    for target in [
        secret.url(),
        format!("http://localhost:{}/", secret.port),
        format!("//127.1:{}/", secret.port),
        format!("https://127.0.0.1:{}/", secret.port),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
    ] {
        let start = Server::redirecting(&target).await;
        let error = Egress::new(allowing(&[&start])).get(&start.url(), limits()).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{target}: {error:?}");
    }
    assert_eq!(secret.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_another_scheme_or_with_a_password_is_refused() {
    for (target, refused) in [
        ("file:///etc/passwd", "only http and https"),
        ("http://user:word@127.0.0.1/", "user name"),
        ("http://[", "no address"),
    ] {
        let start = Server::redirecting(target).await;
        let error = Egress::new(allowing(&[&start])).get(&start.url(), limits()).await.unwrap_err();
        assert!(error.to_string().contains(refused), "{target}: {error}");
    }
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::redirecting("/again").await;
    let error = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap_err();
    assert!(matches!(error, Error::TooManyRedirects(5)), "{error:?}");
    assert_eq!(server.connections(), 6);
}

#[tokio::test]
async fn a_redirect_without_a_target_is_an_answer() {
    let server = Server::saying("HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\nbody").await;
    let fetched = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap();
    assert_eq!((fetched.status, fetched.body), (302, b"body".to_vec()));
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_not_again_after_the_check() {
    let server = Server::saying(plain("x")).await;
    // The second answer would be forbidden, were it asked for.
    let names = Names::answering(&[&["127.0.0.1"], &["10.0.0.1"]]);
    let egress = Egress::with_lookup(allowing(&[&server]), Arc::clone(&names) as _);
    let url = format!("http://rebinding.test:{}/", server.port);
    assert_eq!(egress.get(&url, limits()).await.unwrap().status, 200);
    assert_eq!((names.asked(), server.connections()), (1, 1));
    assert!(server.heads.lock().unwrap()[0].contains(&format!("host: rebinding.test:{}\r\n", server.port)));

    let error = egress.get(&url, limits()).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    assert_eq!((names.asked(), server.connections()), (2, 1));
}

#[tokio::test]
async fn one_forbidden_address_among_several_is_enough() {
    let server = Server::saying(plain("x")).await;
    for answer in [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let egress = Egress::with_lookup(allowing(&[&server]), Names::answering(&[&answer]));
        let error = egress.get(&format!("http://mixed.test:{}/", server.port), limits()).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_kept_client_checks_every_call() {
    for scheme in ["http", "https"] {
        let names = Names::answering(&[&["10.0.0.1"]]);
        let egress = Egress::with_lookup(AllowList::default(), Arc::clone(&names) as _);
        for _ in 0..2 {
            let error = egress.get(&format!("{scheme}://inside.test/"), limits()).await.unwrap_err();
            assert!(matches!(error, Error::Forbidden { what: "private", .. }), "{error:?}");
        }
        assert_eq!(names.asked(), 2);
    }
}

#[tokio::test]
async fn a_name_without_an_address_says_so() {
    let egress = Egress::with_lookup(AllowList::default(), Names::answering(&[&[]]));
    let error = egress.get("http://nobody.test/", limits()).await.unwrap_err();
    assert!(matches!(&error, Error::NoAddress { host, .. } if host == "nobody.test"), "{error:?}");
}

#[tokio::test]
async fn a_long_body_is_cut() {
    for (length, truncated) in [(999, false), (1000, false), (1001, true), (500_000, true)] {
        let server = Server::saying(plain(&"a".repeat(length))).await;
        let fetched = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap();
        assert_eq!((fetched.body.len(), fetched.truncated), (length.min(1000), truncated));
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        loop {
            stream.write_all(b"3\r\nabc\r\n").await?;
        }
    })
    .await;
    let fetched = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap();
    assert_eq!((fetched.body.len(), fetched.truncated), (1000, true));
}

#[tokio::test]
async fn a_slow_answer_is_given_up_on_wherever_it_is_slow() {
    for beginning in
        ["", "HTTP/1.1 200 OK\r\nX-Slow: ", "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nstart"]
    {
        let server = Server::start(move |mut stream| async move {
            stream.write_all(beginning.as_bytes()).await?;
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if !beginning.is_empty() {
                    stream.write_all(b"a").await?;
                }
            }
        })
        .await;
        let limits = GetLimits { total_timeout: Duration::from_millis(300), ..limits() };
        let started = Instant::now();
        let error = Egress::new(allowing(&[&server])).get(&server.url(), limits).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{beginning}: {error:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn endless_headers_are_bounded() {
    let long = "a".repeat(1000);
    let endless = [
        "X-Header: a\r\n".to_owned(),
        format!("X-Header: {long}\r\n"),
        long,
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
    ];
    for line in endless {
        let written = Arc::new(AtomicUsize::new(0));
        let (counter, repeated) = (Arc::clone(&written), line.clone());
        let server = Server::start(move |mut stream| {
            let (counter, line) = (Arc::clone(&counter), repeated.clone());
            async move {
                if !line.starts_with("HTTP") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                }
                loop {
                    stream.write_all(line.as_bytes()).await?;
                    counter.fetch_add(line.len(), Ordering::SeqCst);
                }
            }
        })
        .await;
        let limits = GetLimits { total_timeout: Duration::from_millis(500), ..limits() };
        let error = Egress::new(allowing(&[&server])).get(&server.url(), limits).await.unwrap_err();
        if line.starts_with("HTTP") {
            assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
        } else {
            assert!(matches!(error, Error::Broken { .. }), "{error:?}");
            // Most of it lies in the sockets' buffers.
            assert!(written.load(Ordering::SeqCst) < 16 * 1024 * 1024);
        }
    }
}

#[tokio::test]
async fn a_compressed_body_is_not_read() {
    let server =
        Server::saying("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx").await;
    let error = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap_err();
    assert!(matches!(&error, Error::Encoded(encoding) if encoding == "gzip"), "{error:?}");
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let server =
        Server::saying("HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n").await;
    let egress = Egress::new(allowing(&[&server]));
    for _ in 0..2 {
        egress.get(&server.url(), limits()).await.unwrap();
    }
    assert!(!server.heads.lock().unwrap()[1].to_lowercase().contains("cookie"));
}

#[tokio::test]
async fn the_networks_faults_are_told_apart() {
    let closed = Server { port: free_port().await, connections: Arc::default(), heads: Arc::default() };
    let error = Egress::new(allowing(&[&closed])).get(&closed.url(), limits()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    for answer in ["", "not http\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"] {
        let server = Server::saying(answer).await;
        let error = Egress::new(allowing(&[&server])).get(&server.url(), limits()).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{answer}: {error:?}");
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}
