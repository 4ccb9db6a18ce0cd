//! Archives of every kind, honest and hostile, unpacked beside a folder that must not change.

mod fixture;
mod folders;
mod hostile;
mod images;
mod property;
