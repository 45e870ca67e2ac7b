//! The socket hooks with real sockets: where calls to a VIP go, what the socket sees, what is counted.

mod bare;
mod closed;
mod connect;
mod cookies;
mod datagram;
mod destroy;
mod elsewhere;
mod lab;
mod limits;
mod load;
mod local;
