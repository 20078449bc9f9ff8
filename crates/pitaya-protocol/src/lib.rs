//! pitaya-protocol
