//! What every HTTP answer of the program has in common: errors as problem+json, bodies that are checked before they
//! are used, pages by cursor, request ids, and who the client is.

mod body;
mod client;
mod page;
mod path;
mod problem;
mod query;
mod timestamp;

pub use body::{Body, RawJson};
pub use client::{ClientAddress, ProxyHeader, TrustedProxies};
pub use page::{Page, PageQuery, PageRequest, limit as page_limit};
pub use path::Path;
pub use problem::{FieldError, Problem};
pub use query::Query;
pub use timestamp::Timestamp;

/// Largest request body. A message is smaller; nothing else comes near.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
