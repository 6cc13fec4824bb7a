//! The gateway: it accepts connections, bounds what a client may take of this process, and hands requests to the
//! domains' routes.
//!
//! `connections` accepts and watches, `admission` counts, `socket` notices a client that takes nothing, `router` puts
//! the layers around the routes. Nothing here knows a domain but by its routes.

mod activity;
mod admission;
mod connections;
mod router;
mod socket;

pub use connections::{Gateway, listen};
pub use router::router;
