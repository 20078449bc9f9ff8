//! pitaya-server
