//! The live dashboard.
//!
//! Feed in, keys in, frames and effects out. [`app`] is the state and what changes it, [`screen`] draws it,
//! [`views`] has one file per view, [`terminal`] and [`run`] are the only files that know a terminal.
//! ratatui nowhere but in this folder, and not in `app`, `key`, `feed`, `table`, `shown`.

pub mod app;
pub mod calls;
pub mod canvas;
pub mod config;
pub mod course;
pub mod feed;
mod input;
pub mod key;
pub mod run;
pub mod screen;
pub mod shown;
pub mod table;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod theme;
pub mod tone;
pub mod views;
pub mod widgets;

pub use run::{Exported, Setup, run};
