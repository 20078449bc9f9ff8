//! pitaya-client
