//! Clients that keep to the protocol and ask for as much as it allows, beside clients that behave well: what those
//! notice of the others. `scripts/chaos hostile` prints it.

mod bystanders;
mod crowds;
mod kinds;
mod noise;
mod pages;
mod runs;
mod stage;
mod streams;
