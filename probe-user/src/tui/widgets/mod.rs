//! Pieces that views are made of; each knows a canvas and plain values.

pub mod chart;
pub mod facts;
pub mod heat;
pub mod table;
