//! The channel that prints alerts, for containers whose output is collected, and for trying out.

use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::alert::text;
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use std::io::Write;

#[derive(Debug)]
pub(super) struct Stdout;

impl Channel for Stdout {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        let written = writeln!(std::io::stdout().lock(), "{}\n", text::text(notice));
        Box::pin(std::future::ready(match written {
            Ok(()) => Delivery::Delivered,
            Err(_) => Delivery::Retry { reason: "the standard output does not take it".to_owned(), after: None },
        }))
    }
}
