//! What a browser does while somebody signs in: it keeps cookies, goes where it is sent, and fills in a form.

use std::collections::BTreeMap;

use reqwest::{
    Client, Method,
    header::{HeaderMap, LOCATION, SET_COOKIE},
};
use url::{Url, form_urlencoded};

use super::PATIENCE;

/// A browser without windows. It follows no redirect by itself, so that a test sees each.
#[derive(Clone)]
pub struct Browser {
    client: Client,
    /// By origin and name.
    cookies: BTreeMap<(String, String), String>,
}

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    url: Url,
}

impl Browser {
    #[expect(clippy::disallowed_methods, reason = "a test's own client of servers on loopback")]
    pub fn new() -> Self {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self { client: client.build().expect("a client"), cookies: BTreeMap::new() }
    }

    pub async fn open(&mut self, url: &str) -> Page {
        self.go(Method::GET, url, None).await
    }

    /// Sends a form as its page would.
    pub async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.go(Method::POST, url, Some(body)).await
    }

    async fn go(&mut self, method: Method, url: &str, form: Option<String>) -> Page {
        let url = Url::parse(url).expect("an address");
        let origin = url.origin().ascii_serialization();
        let own = self.cookies.iter().filter(|((place, _), _)| *place == origin);
        let cookies: Vec<String> = own.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut request =
            self.client.request(method, url.clone()).timeout(PATIENCE).header("accept", "text/html");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some(form) = form {
            let request_of_form = request.header("content-type", "application/x-www-form-urlencoded");
            request = request_of_form.header("origin", &origin).body(form);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for line in headers.get_all(SET_COOKIE) {
            let line = line.to_str().expect("text");
            let (name, value) =
                line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            let key = (origin.clone(), name.to_owned());
            if value.is_empty() || line.to_lowercase().contains("max-age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        Page { status, headers, body: response.text().await.expect("a body"), url }
    }

    /// A cookie that this origin has set.
    pub fn cookie(&self, base: &str, name: &str) -> Option<&str> {
        self.cookies.get(&(base.to_owned(), name.to_owned())).map(String::as_str)
    }
}

impl Page {
    /// Where the page sends the browser.
    #[track_caller]
    pub fn location(&self) -> Url {
        let location = self.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location else { panic!("no redirect but {}: {}", self.status, self.body) };
        assert!((300..400).contains(&self.status), "{}: {}", self.status, self.body);
        self.url.join(location).expect("an address")
    }

    /// Where the page's one form goes.
    #[track_caller]
    pub fn form_action(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        let action = self.body.split_once("action=\"").and_then(|(_, rest)| rest.split_once('"'));
        action.expect("a form").0.replace("&amp;", "&")
    }
}

/// A parameter of an address.
pub fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
