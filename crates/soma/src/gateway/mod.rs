//! The gateway: it accepts connections, bounds what a client may take of this process, and hands requests to the
//! domains' routes.
//!
//! `connections` accepts and watches, `admission` counts, `socket` notices a client that takes nothing, `router` puts
//! the layers around the routes: `observe`, `headers`, `rates`. Nothing here knows a domain but by its routes.

mod activity;
mod admission;
mod connections;
mod headers;
mod observe;
mod rates;
mod router;
mod socket;
mod tls;

pub use connections::{Gateway, listen};
pub use router::router;
pub use tls::{Tls, problem_of as tls_problem};
