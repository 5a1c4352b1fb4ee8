//! What no well-meant client sends, over real sockets. After each of it the server serves as before, and what
//! reached its log can be replayed.

mod clients;
mod framing;
mod requests;
mod sessions;
mod support;
