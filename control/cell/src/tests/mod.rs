//! The owner, driven as its process drives it: rule by rule (`rules`), and against random disorder (`chaos`).

mod chaos;
mod fake;
mod golden;
mod network;
mod rules;
