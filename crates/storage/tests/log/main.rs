//! The log as its owner sees it.

mod basics;
mod damage;
mod faults;
mod properties;
mod support;
